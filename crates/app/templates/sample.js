// The live connection of the sample page.
const log = document.getElementById("log");
const socket = new WebSocket(`wss://${location.host}/echo`);
socket.addEventListener("open", () => { log.textContent = "connected"; });
socket.addEventListener("message", (event) => { log.textContent = `came back: ${event.data}`; });
socket.addEventListener("close", () => { log.textContent = "the connection has ended; reload to connect again"; });
document.getElementById("echo").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket.readyState === WebSocket.OPEN) socket.send(document.getElementById("text").value);
});
