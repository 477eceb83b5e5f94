// Adds a copy button to every piece of code.

const DONE = 1500; // milliseconds for which the button shows the result

/** Give the block a button that copies the present value of `text()`. */
export function addCopy(block, text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    button.textContent = (await put(text())) ? "Copied" : "Not allowed";
    setTimeout(() => { button.textContent = "Copy"; }, DONE);
  });
  block.append(button);
}

/** Copy a text. Without TLS only a page of this machine may use the clipboard, so other pages use the old command. */
async function put(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

for (const block of document.querySelectorAll("[data-copy]")) {
  addCopy(block, () => block.querySelector("pre").textContent);
}
