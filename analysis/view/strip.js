// The reply as real buttons, one for each token; tokens of a word stand together.

// Make an element; text from models and people only ever goes through `textContent`.
function el(tag, className = "", text = null, attributes = {}) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== null) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

// Control tokens are written small; they and punctuation belong to no word, so they answer no question about the sound.
const isWord = (token) => token.word >= 0;
const isQuiet = (token) => token.kind === "special" || token.text.trim() === "";

// How unsure the model was, 0 (certain) .. 1; the scale is logarithmic: probability 0.9 is 0.05, 0.1 is 1.
const doubtOf = (token) => (token.logprob === null ? 0 : clamp(-token.logprob / Math.LN10, 0, 1));

class Strip {
  constructor(tokens, label, onPick) {
    this.node = el("div", "lv-strip", null, { role: "group", "aria-label": label });
    this.buttons = tokens.map((token, index) => {
      const button = el("button", "lv-token", token.label, { type: "button", "aria-pressed": "false", tabindex: "-1" });
      button.style.setProperty("--doubt", doubtOf(token).toFixed(3));
      button.classList.toggle("lv-quiet", isQuiet(token));
      if (token.logprob !== null) button.title = `p = ${Math.exp(token.logprob).toPrecision(2)}`;
      button.addEventListener("click", () => onPick(index));
      return button;
    });
    this.group(tokens);
    if (this.buttons.length) this.buttons[0].tabIndex = 0;
  }

  group(tokens) {
    let box = null;
    tokens.forEach((token, index) => {
      const same = box && token.word >= 0 && token.word === tokens[index - 1].word;
      if (!same) {
        box = el("span", "lv-word");
        box.classList.toggle("lv-close", index > 0 && !token.space && !isQuiet(token));
        this.node.append(box);
      }
      box.append(this.buttons[index]);
    });
  }

  // `selected` is one token, `together` all tokens that are read with it.
  mark(selected, together) {
    this.buttons.forEach((button, index) => {
      button.setAttribute("aria-pressed", String(index === selected));
      button.classList.toggle("lv-with", together.includes(index));
      button.tabIndex = index === Math.max(0, selected) ? 0 : -1;
    });
  }

  // How strongly each token lights up, 0..1, or null for none.
  light(levels) {
    this.node.classList.toggle("lv-lighting", levels !== null);
    this.buttons.forEach((button, index) => {
      button.style.setProperty("--lit", levels ? levels[index].toFixed(3) : "0");
      button.classList.toggle("lv-lit", Boolean(levels && levels[index] > 0));
    });
  }

  // The tokens being heard while the sound plays.
  follow(indices) {
    this.buttons.forEach((button, index) => button.classList.toggle("lv-now", indices.includes(index)));
  }
}
