// Makes the curl command that sends an operation's first example.

const quote = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
const plain = (text) => (/^[\w@%+=:,./?&-]*$/.test(text) && !/[?&]/.test(text) ? text : quote(text));

/** A command of several lines; `origin` is the address of the service. */
export function toCurl(origin, method, path, operation, media, example) {
  const parameters = operation.parameters ?? [];
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(parameters.find((each) => each.name === name)?.example ?? 1));
  const query = parameters
    .filter((each) => each.in === "query" && each.required && each.example !== undefined)
    .map((each) => `${each.name}=${encodeURIComponent(each.example)}`)
    .join("&");
  const parts = [`curl ${operation["x-endless"] ? "-N" : "-i"}${method === "GET" || method === "POST" ? "" : ` -X ${method}`} ${plain(origin + filled + (query && `?${query}`))}`];
  const security = operation.security ?? [];
  if (security.length && !security.some((each) => Object.keys(each).length === 0)) parts.push("-H 'Authorization: Bearer YOUR_KEY'");
  if (example !== undefined) {
    parts.push(`-H 'Content-Type: ${media}'`);
    parts.push(typeof example === "string" ? `--data-binary ${dollar(example)}` : `-d ${quote(JSON.stringify(example, null, 2).replaceAll("\n", "\n  "))}`);
  } else if (method === "POST") {
    parts[0] = parts[0].replace("curl -i", "curl -i -X POST");
  }
  return parts.join(" \\\n  ");
}

/** Text of several lines as bash and zsh read it on one. */
const dollar = (text) => (text.includes("\n") ? `$'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'").replaceAll("\n", "\\n")}'` : quote(text));
