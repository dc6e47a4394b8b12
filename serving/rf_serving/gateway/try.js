// Lists the methods of the OpenAPI document, and sends what is in the field to one. All that is shown is set as text.
const at = (id) => document.getElementById(id);
const api = await (await fetch("openapi.json")).json();
const paths = Object.keys(api.paths);

const schemaOf = (content) => resolved(content["application/json"].schema);
const resolved = (schema) => (schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema);
const element = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);
const chosen = () => decodeURIComponent(location.hash.slice(1));
const path = () => (paths.includes(chosen()) ? chosen() : paths.find((each) => each.endsWith("/Retrieve")) ?? paths[0]);

function empty(schema) {
  const { type, enum: names } = resolved(schema);
  if (names) return names[0];
  return { string: "", integer: 1, number: 0, boolean: true, array: [] }[type] ?? {};
}

function typeOf(schema) {
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.additionalProperties) return `map of ${typeOf(schema.additionalProperties)}`;
  return schema.$ref?.split("/").pop() ?? schema.format ?? schema.type ?? "any";
}

function add(name, schema) {
  let request = {};
  try {
    request = JSON.parse(at("request").value || "{}");
  } catch {
    at("status").textContent = "the request is no JSON yet";
    return;
  }
  request[name] = empty(schema);
  at("request").value = JSON.stringify(request, null, 2);
  tell();
}

function fields(schema) {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const term = document.createElement("dt");
    const button = element("button", name, { type: "button", title: "add to the request" });
    button.addEventListener("click", () => add(name, field));
    term.append(button, ` ${typeOf(field)}`);
    return [term, element("dd", field.description ?? "")];
  });
}

function tell() {
  const quoted = `'${at("request").value.replaceAll("'", "'\\''")}'`;
  const token = at("token").value ? ` -H "authorization: Bearer $RF_TOKEN"` : "";
  at("command").textContent = `curl${token} --json ${quoted} ${new URL(path().slice(1), location.href.split("#")[0])}`;
}

function show() {
  const operation = api.paths[path()].post;
  at("name").textContent = operation.operationId.replace("_", ".");
  at("description").textContent = operation.description;
  at("fields").replaceChildren(...fields(schemaOf(operation.requestBody.content)));
  at("request").value = path().endsWith("/Retrieve") ? JSON.stringify({ userId: "42", k: 10 }, null, 2) : "{}";
  at("reply").textContent = at("status").textContent = "";
  at("methods").replaceChildren(
    ...paths.map((each) => {
      const item = document.createElement("li");
      const link = element("a", each.split(".").pop().replace("/", "."), { href: `#${each}` });
      if (each === path()) link.setAttribute("aria-current", "page");
      item.append(link);
      return item;
    }),
  );
  tell();
}

async function send(event) {
  event.preventDefault();
  const headers = { "content-type": "application/json" };
  if (at("token").value) headers.authorization = `Bearer ${at("token").value}`;
  const begin = performance.now();
  try {
    const reply = await fetch(path().slice(1), { method: "POST", headers, body: at("request").value });
    const text = await reply.text();
    at("reply").textContent = JSON.stringify(JSON.parse(text), null, 2);
    const id = reply.headers.get("x-request-id");
    at("status").textContent = `${reply.status} in ${(performance.now() - begin).toFixed(1)} ms${id ? `, request ${id}` : ""}`;
  } catch (error) {
    at("status").textContent = String(error);
  }
}

at("form").addEventListener("submit", send);
at("form").addEventListener("input", tell);
addEventListener("hashchange", show);
show();
