/** Numbers with a unit and as many digits as one can use; times; bytes. Pure. What is not known is written "–". */

export const UNKNOWN = '–';
const THIN = '\u202f';

type Maybe = number | null | undefined;

function known(value: Maybe): value is number {
  return value !== null && value !== undefined && Number.isFinite(value);
}

/** A count: 1 234 567, with thin spaces from five digits on. */
export function count(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const digits = String(Math.abs(Math.round(value)));
  const grouped = digits.length > 4 ? digits.replace(/\B(?=(\d{3})+(?!\d))/g, THIN) : digits;
  return value < 0 && digits !== '0' ? `−${grouped}` : grouped;
}

/** A count with its noun: 1 step, 2 steps. */
export function counted(value: Maybe, noun: string, plural = `${noun}s`): string {
  return `${count(value)} ${known(value) && Math.round(value) === 1 ? noun : plural}`;
}

/** A large count in short: 950, 12.3 k, 4.5 M, 7 B. */
export function short(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  for (const [unit, name] of [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    // 999 950 is 1.00 M, not 1000 k.
    if (size >= unit * 0.9995) return `${digits(value / unit, 3)}${THIN}${name}`;
  }
  return digits(value, 3);
}

/** Loss in nats: three decimals below 1, two above; tiny ones as a power of ten. NaN and infinities by name. */
export function loss(value: Maybe): string {
  if (value === null || value === undefined) return UNKNOWN;
  if (Number.isNaN(value)) return 'not a number';
  if (!Number.isFinite(value)) return value > 0 ? 'infinite' : '−infinite';
  const size = Math.abs(value);
  if (size !== 0 && size < 0.0005) return scientific(value);
  return minus(value.toFixed(size < 1 ? 3 : size < 100 ? 2 : 0));
}

/** A share of 0 to 1 in per cent: 7 %, 7.3 %; never 100 % or 0 % of what is not all or nothing. */
export function percent(value: Maybe, decimals = 0): string {
  if (!known(value)) return UNKNOWN;
  let text = (value * 100).toFixed(decimals);
  if (value < 1 && Number(text) >= 100) text = (100 - 10 ** -decimals).toFixed(decimals);
  if (value > 0 && Number(text) === 0) return `< ${(10 ** -decimals).toFixed(decimals)}${THIN}%`;
  return `${minus(text)}${THIN}%`;
}

/** A probability: per cent with one decimal, small ones as a power of ten. */
export function probability(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  return value !== 0 && value < 0.0005 ? scientific(value) : percent(value, 1);
}

/** Any measure, in so many significant digits; very small and very large as a power of ten. */
export function significant(value: Maybe, digitsShown = 3): string {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return scientific(value);
  return size >= 10_000 ? count(value) : digits(value, digitsShown);
}

/** 1.5 × 10⁻⁴ */
export function scientific(value: number): string {
  const [mantissa = '0', power = '0'] = value.toExponential(1).split('e');
  return `${minus(mantissa.replace(/\.0$/, ''))}${THIN}×${THIN}10${raised(Number(power))}`;
}

/** With its sign: +0.12, −0.12, 0. */
export function signed(value: Maybe, write: (value: number) => string = (v) => loss(v)): string {
  if (!known(value)) return UNKNOWN;
  return value > 0 ? `+${write(value)}` : write(value);
}

/** Seconds as a person says them: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds: Maybe): string {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 0) return UNKNOWN;
  if (seconds < 0.001) return seconds === 0 ? `0${THIN}s` : `< 1${THIN}ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)}${THIN}ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)}${THIN}s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}${THIN}s`;
  if (whole < 3600) return pair(whole, 60, 'min', 's');
  const minutes = Math.round(whole / 60);
  if (minutes < 1440) return pair(minutes, 60, 'h', 'min');
  return pair(Math.round(minutes / 60), 24, 'd', 'h');
}

/** An estimate of seconds: only as fine as an estimate is. */
export function about(seconds: Maybe): string {
  if (!known(seconds) || seconds < 0) return UNKNOWN;
  if (seconds < 5) return 'a few seconds';
  if (seconds < 60) return `about ${Math.ceil(seconds / 5) * 5}${THIN}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `about ${minutes}${THIN}min`;
  if (minutes < 60 * 36) return `about ${digits(minutes / 60, 2)}${THIN}h`;
  return `about ${digits(minutes / 1440, 2)}${THIN}d`;
}

/** Bytes in powers of 1000, as disks are sold. */
export function bytes(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? String(Math.round(size)) : digits(size, 3)}${THIN}${units[unit]}`;
}

/** 2026-11-26 19:30 in the reader's own time zone. */
export function moment(unixSeconds: Maybe): string {
  if (!known(unixSeconds)) return UNKNOWN;
  const at = new Date(unixSeconds * 1000);
  return `${day(at)} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** With seconds, for logs. */
export function clock(unixSeconds: Maybe): string {
  if (!known(unixSeconds)) return UNKNOWN;
  const at = new Date(unixSeconds * 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** How long ago: just now, 5 min ago, 3 h ago, 2 d ago, then the day. */
export function ago(unixSeconds: Maybe, now: number = Date.now() / 1000): string {
  if (!known(unixSeconds)) return UNKNOWN;
  const seconds = now - unixSeconds;
  if (seconds < 45) return 'just now';
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))}${THIN}min ago`;
  if (seconds < 86_400) return `${Math.round(seconds / 3600)}${THIN}h ago`;
  if (seconds < 7 * 86_400) return `${Math.round(seconds / 86_400)}${THIN}d ago`;
  return day(new Date(unixSeconds * 1000));
}

/** The start and the end of a long name. */
export function middle(text: string, most = 40): string {
  if (text.length <= most) return text;
  const tail = Math.floor((most - 1) / 2);
  return `${text.slice(0, most - 1 - tail)}…${text.slice(text.length - tail)}`;
}

/** Whitespace made visible in a token. */
export function visible(token: string): string {
  if (token === '') return '∅';
  return token.replace(/\n/g, '⏎').replace(/\t/g, '⇥').replace(/ /g, '·').replace(/\r/g, '␍');
}

function digits(value: number, significantDigits: number): string {
  // 999.6 is written 1000: how many digits stand before the point is asked of the rounded number.
  const size = Number(Math.abs(value).toPrecision(significantDigits));
  const whole = size === 0 ? 1 : Math.floor(Math.log10(size) + 1e-9) + 1;
  return minus(value.toFixed(Math.max(0, significantDigits - whole)));
}

function pair(value: number, per: number, large: string, small: string): string {
  const rest = value % per;
  const first = `${Math.floor(value / per)}${THIN}${large}`;
  return rest ? `${first} ${rest}${THIN}${small}` : first;
}

function minus(text: string): string {
  return Number(text) === 0 ? text.replace('-', '') : text.replace('-', '−');
}

function raised(power: number): string {
  return String(power).replace(/[-\d]/g, (sign) => (sign === '-' ? '⁻' : ('⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(sign)] ?? sign)));
}

function day(at: Date): string {
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}
