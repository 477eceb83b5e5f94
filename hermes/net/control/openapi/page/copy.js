// A button at every piece of code that copies it.

const DONE = 1500; // milliseconds for which the button says that it has

/** Give the block a button that copies what `text()` says then. */
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

/** Without TLS only this machine's own pages may use the clipboard; the others select the text and ask the old way. */
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
