#!/bin/bash
# One subject on all GPUs of a node:  sbatch --export=ALL,SUBJECT=1 precompute/slurm/node.sh
# From the repository's folder, after `prepare`. A job that was killed goes on when it is submitted again.
#SBATCH --job-name=reconstruct
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=256G
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail

export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / SLURM_GPUS_ON_NODE)) # of each process
together() { accelerate launch --multi_gpu --num_machines 1 --num_processes "$SLURM_GPUS_ON_NODE" -m precompute "$@"; }

for target in vdvae clip-text clip-vision; do
  together features --subject "$SUBJECT" --target "$target"
done
together fit --subject "$SUBJECT"
python -m precompute encode --subject "$SUBJECT"
python -m precompute bundle --subject "$SUBJECT"
together evaluate --subject "$SUBJECT"
