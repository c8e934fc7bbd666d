// A button beside each command that copies it. Without scripts the command is there to be selected.
"use strict";
for (const command of document.querySelectorAll(".command")) {
  const code = command.querySelector("code");
  const name = command.querySelector(".name").textContent;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy the command for " + name);
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  button.addEventListener("click", async () => {
    let copied = false;
    try {
      await navigator.clipboard.writeText(code.textContent);
      copied = true;
    } catch {
      // Not over plain HTTP to another machine: the old way.
      const range = document.createRange();
      range.selectNodeContents(code);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      copied = document.execCommand("copy");
    }
    said.textContent = copied ? "copied" : "selected; copy it with the keyboard";
    setTimeout(() => { said.textContent = ""; }, 3000);
  });
  command.append(button, said);
}
