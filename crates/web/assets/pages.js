// Comfort only: every page works without this file.

/** Buttons that copy the text of another element: shown only where the clipboard can be used. */
function enableCopy(button) {
  const source = document.getElementById(button.dataset.copy);
  if (!source || !navigator.clipboard) return;
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(source.textContent.trim());
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

/** Narrows a list while typing; the form still works with the server's answer. */
function enableFilter(input) {
  const list = document.getElementById(input.dataset.filter);
  const empty = document.getElementById(input.dataset.empty);
  if (!list) return;
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    for (const item of list.children) {
      item.hidden = !item.textContent.toLowerCase().includes(wanted);
      if (!item.hidden) shown += 1;
    }
    if (empty) empty.hidden = shown > 0;
  });
}

/** The reader's own variant of the page's language: "en-GB" reads dates differently from "en-US". */
function locale() {
  const { lang } = document.documentElement;
  return navigator.languages.find((own) => own === lang || own.startsWith(`${lang}-`)) ?? lang;
}

/** Times in the reader's own zone; in the title as the server wrote them. */
function localTime(element) {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) return;
  element.title = element.textContent;
  element.textContent = at.toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" });
}

document.querySelectorAll("button[data-copy]").forEach(enableCopy);
document.querySelectorAll("input[data-filter]").forEach(enableFilter);
document.querySelectorAll("time[datetime]").forEach(localTime);
