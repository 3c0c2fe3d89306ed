/** Python's strftime in the C locale. Unlike Intl, it gives the same text on every machine. */

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
]

const MAX_FORMAT = 1000

const pad = (value: number, width = 2) => String(value).padStart(width, '0')

function dayOfYear(date: Date): number {
  const start = Date.UTC(date.getFullYear(), 0, 1)
  return (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - start) / 86_400_000 + 1
}

const FIELDS: Record<string, (date: Date) => string> = {
  a: (date) => DAYS[date.getDay()]!.slice(0, 3),
  A: (date) => DAYS[date.getDay()]!,
  b: (date) => MONTHS[date.getMonth()]!.slice(0, 3),
  B: (date) => MONTHS[date.getMonth()]!,
  c: (date) => strftime(date, '%a %b %e %H:%M:%S %Y'),
  d: (date) => pad(date.getDate()),
  e: (date) => String(date.getDate()).padStart(2, ' '),
  f: (date) => pad(date.getMilliseconds() * 1000, 6),
  F: (date) => strftime(date, '%Y-%m-%d'),
  H: (date) => pad(date.getHours()),
  I: (date) => pad(date.getHours() % 12 || 12),
  j: (date) => pad(dayOfYear(date), 3),
  m: (date) => pad(date.getMonth() + 1),
  M: (date) => pad(date.getMinutes()),
  p: (date) => (date.getHours() < 12 ? 'AM' : 'PM'),
  S: (date) => pad(date.getSeconds()),
  T: (date) => strftime(date, '%H:%M:%S'),
  w: (date) => String(date.getDay()),
  x: (date) => strftime(date, '%m/%d/%y'),
  X: (date) => strftime(date, '%H:%M:%S'),
  y: (date) => pad(date.getFullYear() % 100),
  Y: (date) => String(date.getFullYear()),
  z: () => '',
  Z: () => '',
  '%': () => '%',
}

/**
 * Local time, as in `datetime.now()`. `%-d` and similar fields drop leading zeros; unknown fields stay
 * unchanged.
 */
export function strftime(date: Date, format: string): string {
  if (format.length > MAX_FORMAT) {
    throw new RangeError(`strftime: the format has ${format.length} characters, more than ${MAX_FORMAT}`)
  }
  return format.replace(/%(-?)([a-zA-Z%])/g, (whole, dash: string, name: string) => {
    const field = FIELDS[name]
    if (!field) return whole
    const text = field(date)
    return dash ? text.replace(/^[0 ]+(?=\d)/, '') : text
  })
}
