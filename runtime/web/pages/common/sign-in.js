// The form that asks for the token: a browser that gave it is known by a cookie from then on.
const reply = document.getElementById("reply");

document.getElementById("form").addEventListener("submit", async event => {
  event.preventDefault();
  reply.textContent = "";
  // a header takes no letters beyond Latin-1: the token travels as its UTF-8 bytes
  const bytes = String.fromCharCode(...new TextEncoder().encode(document.getElementById("token").value.trim()));
  try {
    const answer = await fetch("sign-in", { headers: { Authorization: `Bearer ${bytes}` } });
    if (answer.ok) location.replace("./");
    else reply.textContent = answer.status === 401 ? "That is not the token." : await answer.text();
  } catch {
    reply.textContent = "There is no answer; is it still running?";
  }
});
