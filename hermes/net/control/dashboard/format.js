// Formats numbers, sizes, durations and times for people. Nothing here touches the page.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const shortened = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minutes = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

export const count = (number) => whole.format(number);
export const compact = (number) => (number < 100_000 ? whole.format(number) : shortened.format(number));

/** Events a second: with a tenth below 10. */
export function rate(number) {
  if (number > 0 && number < 10) return tenths.format(number);
  return number < 100_000 ? whole.format(number) : shortened.format(number);
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (bytes >= 1024 && place < units.length - 1) {
    bytes /= 1024;
    place += 1;
  }
  return `${place && bytes < 100 ? tenths.format(bytes) : whole.format(bytes)} ${units[place]}`;
}

/** A duration in seconds, in its two largest units. */
export function duration(seconds) {
  if (seconds < 0.001) return seconds > 0 ? `${whole.format(seconds * 1e6)} µs` : "0 s";
  if (seconds < 1) return `${seconds < 0.01 ? tenths.format(seconds * 1e3) : whole.format(seconds * 1e3)} ms`;
  if (seconds < 60) return `${tenths.format(seconds)} s`;
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  let left = Math.floor(seconds);
  const words = [];
  for (const [length, unit] of parts) {
    if (left >= length && words.length < 2) words.push(`${Math.floor(left / length)} ${unit}`);
    left %= length;
  }
  return words.join(" ");
}

/** How long ago, without fractions. */
export const ago = (seconds) => (seconds < 1 ? "just now" : `${duration(Math.floor(seconds))} ago`);

export const time = (unix) => clock.format(unix * 1000);
export const minute = (unix) => minutes.format(unix * 1000);
export const date = (unix) => day.format(unix * 1000);

/** A moment: the time alone if it is of today. */
export const moment = (unix) => (date(unix) === date(Date.now() / 1000) ? time(unix) : `${date(unix)}, ${minute(unix)}`);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
