// Requests to the server that served the page. Each has a ticket, by which its place in the queue is asked for.

const ROOT = "/studio/api";
const POLL_MS = 700;
const QUIET_MS = 500;

let onProgress = () => {};
let askForToken = async () => null;
let token = sessionStorage.getItem("token");

/** Register a function that asks the user for the server's token; null: the user does not give one. */
export function watchToken(handler) {
  askForToken = handler;
}

const authorization = () => (token ? { Authorization: `Bearer ${token}` } : {});

/** Register a function of the place in the queue: 0 the request runs, n it waits as n-th, null nothing is under way. */
export function watchProgress(handler) {
  onProgress = handler;
}

/** An answer of the server that is no success; the message is for the user. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

function newTicket() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function messageOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}

async function ask(method, path, body, { type = "application/json", progress = true } = {}) {
  const ticket = newTicket();
  const url = `${ROOT}${path}${path.includes("?") ? "&" : "?"}ticket=${ticket}`;
  const content = body === undefined ? undefined : type === "application/json" ? JSON.stringify(body) : body;
  const poll = progress ? pollPlace(ticket) : () => {};
  let response;
  try {
    response = await fetch(url, { method, body: content, headers: { ...authorization(), ...(content === undefined ? {} : { "Content-Type": type }) } });
  } catch {
    throw new ServerError("The server cannot be reached. Is deocclude serve still running?", 0);
  } finally {
    poll();
  }
  if (response.status === 401) {
    const given = await askForToken();
    if (given) {
      token = given;
      sessionStorage.setItem("token", token);
      return ask(method, path, body, { type, progress });
    }
  }
  if (!response.ok) throw new ServerError(await messageOf(response), response.status);
  return response;
}

/** Ask for the place of a request until it ends; returns the function that ends it. */
function pollPlace(ticket) {
  let timer = setTimeout(async function next() {
    try {
      const { position } = await (await fetch(`${ROOT}/queue/${ticket}`, { headers: authorization() })).json();
      if (timer !== null && position !== null) onProgress(position);
    } catch {
      // the request itself reports that the server is gone
    }
    if (timer !== null) timer = setTimeout(next, POLL_MS);
  }, QUIET_MS);
  return () => {
    clearTimeout(timer);
    timer = null;
    onProgress(null);
  };
}

const json = async (...request) => (await ask(...request)).json();
const blob = async (...request) => (await ask(...request)).blob();

export const about = () => json("GET", "/about");
export const upload = (file, name) => json("POST", `/photos?name=${encodeURIComponent(name)}`, file, { type: file.type || "application/octet-stream" });
export const openSample = (sample) => json("POST", "/samples", { sample });
export const close = (photo) => fetch(`${ROOT}/photos/${photo}`, { method: "DELETE", keepalive: true, headers: authorization() });
export const complete = (photo, number, prompts) => json("PUT", `/photos/${photo}/people/${number}/prompts`, prompts);
export const addPerson = (photo, area) => json("POST", `/photos/${photo}/people`, area);
export const replaceVisible = (photo, number, area) => json("PUT", `/photos/${photo}/people/${number}/visible`, area);
export const removePerson = (photo, number) => json("DELETE", `/photos/${photo}/people/${number}`);
export const restore = (photo, former) => json("PUT", `/photos/${photo}/state`, { state: former });
export const hypotheses = (photo, number) => json("GET", `/photos/${photo}/people/${number}/hypotheses`);
export const layers = (photo) => json("GET", `/photos/${photo}/layers`);
export const layerImage = (photo, number) => blob("GET", `/photos/${photo}/layers/${number}.png`);
export const arrangedOra = (photo, arrangement) => blob("POST", `/photos/${photo}/arranged.ora`, arrangement);
export const photoImage = (photo) => blob("GET", `/photos/${photo}/photo.jpg`);
export const poseSheet = () => blob("GET", "/poses.png");

/** A file of the photo: its content and the name that the server gives it. */
export async function download(photo, path) {
  const response = await ask("GET", `/photos/${photo}/${path}`);
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
  return { content: await response.blob(), name: name ? name[1] : path.replace("/", ".") };
}

export const sampleUrl = (name) => `/studio/samples/${name}.jpg`;
