// Asks the device by way of the browser, and posts what it answers. The page says what for.

const form = document.getElementById("device");
const problem = document.getElementById("device-problem");

/** Binary values are base64url in JSON. */
function toBytes(text) {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
}

function toText(buffer) {
  if (!buffer) return undefined;
  const plain = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
  return btoa(plain).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function options(act) {
  const read = JSON.parse(document.getElementById(`device-${act}`).textContent);
  read.challenge = toBytes(read.challenge);
  if (read.user) read.user.id = toBytes(read.user.id);
  for (const known of read.allowCredentials ?? []) known.id = toBytes(known.id);
  return read;
}

async function ask(act) {
  const publicKey = options(act);
  const container = navigator.credentials;
  const found = act === "register" ? await container.create({ publicKey }) : await container.get({ publicKey });
  const { response } = found;
  return JSON.stringify({
    id: found.id,
    rawId: toText(found.rawId),
    type: found.type,
    authenticatorAttachment: found.authenticatorAttachment ?? undefined,
    response: {
      clientDataJSON: toText(response.clientDataJSON),
      attestationObject: toText(response.attestationObject),
      authenticatorData: act === "register" ? undefined : toText(response.authenticatorData),
      signature: toText(response.signature),
      userHandle: toText(response.userHandle),
    },
  });
}

function say(text) {
  problem.textContent = text;
  problem.hidden = false;
}

function enable(buttons) {
  for (const button of buttons) {
    button.addEventListener("click", async () => {
      const { act } = button.dataset;
      problem.hidden = true;
      for (const other of buttons) other.disabled = true;
      try {
        form.elements[`${act}_response`].value = await ask(act);
        form.elements.action.value = act;
        form.submit();
      } catch (error) {
        // The browser does not say whether a person cancelled or no device could help.
        say(error.name === "NotAllowedError" ? form.dataset.refused : form.dataset.failed);
        for (const other of buttons) other.disabled = false;
      }
    });
  }
}

if (globalThis.PublicKeyCredential && navigator.credentials) {
  form.hidden = false;
  enable(Array.from(form.querySelectorAll("button[data-act]")));
} else {
  say(form.dataset.unable);
}
