/** Tables as CSV (RFC 4180) and files out of text, without a server. */

export type Cell = string | number | boolean | null | undefined;

export interface Column {
  label: string;
  numeric?: boolean;
  /** Shown instead of the plain value; the CSV keeps the value. */
  write?: (value: Cell) => string;
}

export interface TableData {
  columns: readonly Column[];
  rows: readonly (readonly Cell[])[];
}

export function csvOf(table: TableData): string {
  return [table.columns.map((column) => column.label), ...table.rows].map((row) => `${row.map(quoted).join(',')}\r\n`).join('');
}

/** Offer a text as a file of that name. */
export function download(name: string, text: string, type = 'text/csv'): void {
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function quoted(value: Cell): string {
  const text = value === null || value === undefined ? '' : String(value);
  // A spreadsheet runs a text that begins like a formula; a quote before it keeps it a text.
  const safe = typeof value === 'string' && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
