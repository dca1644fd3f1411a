#!/bin/bash
# All subjects, a GPU each:  sbatch precompute/slurm/subjects.sh
# From the repository's folder, after `prepare`. A job that was killed goes on when it is submitted again.
#SBATCH --job-name=reconstruct
#SBATCH --array=1-8
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
subject=$SLURM_ARRAY_TASK_ID

for target in vdvae clip-text clip-vision; do
  python -m precompute features --subject "$subject" --target "$target"
done
for stage in fit encode bundle evaluate; do
  python -m precompute "$stage" --subject "$subject"
done
