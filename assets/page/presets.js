// Settings to try, each with a sentence; run once with `element` and `props` in scope. The picker takes them.
const AREA = props.area; // that a preset switches off
const SIGNAL = { repeats: null, components: null, gains: {} };
const PRESETS = {
  "As measured": ["The settings that every score on the Evaluate tab was made with.", {}, {}],
  "More faithful": ["Changes less of the rough layout: blurrier, and nearer to what the voxels say.", { strength: 0.4, steps: 4 }, {}],
  "More imaginative": ["Redraws everything from the decoded words: sharper, and more of it invented.", { strength: 1, guidance: 1.6, steps: 6 }, {}],
};
if (AREA) PRESETS[`${AREA} off`] = [`Switches the area ${AREA} off: what is lost is what this area alone told.`, {}, { gains: { [AREA]: 0 } }];
const words = element.querySelector("p");
element.querySelector(".switch").replaceChildren(...Object.entries(PRESETS).map(([name, [sentence, settings, reading]]) => {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: name, title: sentence });
  button.addEventListener("click", () => {
    words.textContent = sentence;
    const detail = { settings: { ...props.settings, ...settings }, reading: { ...SIGNAL, ...reading } };
    document.dispatchEvent(new CustomEvent("restore", { detail }));
  });
  return button;
}));
words.textContent = "Presets: try one, and watch what changes.";
