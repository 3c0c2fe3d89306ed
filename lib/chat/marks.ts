/**
 * Marks keep user text from becoming control tokens. A template concatenates its own `<|eot_id|>` with the
 * text of the messages. So before rendering, a mark is inserted after the first character of each spelling of
 * a special token in a message, and after rendering the text is cut at the marks. A mark is a Unicode
 * noncharacter, reserved for internal use by programs; no operation of a template changes it.
 */

const FIRST_MARK = 0xfdd0
const LAST_MARK = 0xfdef
const ANY_MARK = /[\ufdd0-\ufdef]/g

/** A mark that no text contains; undefined if they contain all 32. */
export function unusedMark(texts: Iterable<string>): string | undefined {
  const used = new Set<string>()
  for (const text of texts) for (const [mark] of text.matchAll(ANY_MARK)) used.add(mark)
  for (let code = FIRST_MARK; code <= LAST_MARK; code++) {
    const mark = String.fromCharCode(code)
    if (!used.has(mark)) return mark
  }
  return undefined
}

/** For comparisons in a template, which must ignore the marks. */
export function withoutMarks(text: string): string {
  return text.replace(ANY_MARK, '')
}

const escapePattern = (text: string) => text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')
const escapeInClass = (char: string) => char.replace(/[\^\]\\-]/g, '\\$&')

const patterns = new WeakMap<readonly string[], RegExp | null>()

/** Matches the first character of every special spelling, including overlapping ones. */
function spellingPattern(specials: readonly string[]): RegExp | null {
  let pattern = patterns.get(specials)
  if (pattern === undefined) {
    const spellings = specials.filter((spelling) => spelling.length > 0)
    const firsts = [
      ...new Set(spellings.map((spelling) => escapeInClass(String.fromCodePoint(spelling.codePointAt(0)!)))),
    ]
    pattern =
      spellings.length === 0
        ? null
        : new RegExp(`(?=[${firsts.join('')}])(?=${spellings.map(escapePattern).join('|')})[\\s\\S]`, 'gu')
    patterns.set(specials, pattern)
  }
  return pattern
}

/** `text` with a mark in each special spelling. */
export function markSpecials(text: string, specials: readonly string[], mark: string): string {
  const pattern = spellingPattern(specials)
  return pattern ? text.replace(pattern, (first) => first + mark) : text
}

/**
 * Cuts at the marks. The character before a mark becomes a piece that is not special, so the spelling that
 * begins with it stays text.
 */
export function cutAtMarks(text: string, mark: string): Array<[text: string, special: boolean]> {
  const pieces: Array<[string, boolean]> = []
  const parts = text.split(mark)
  parts.forEach((part, index) => {
    if (index === parts.length - 1) {
      if (part.length > 0) pieces.push([part, true])
      return
    }
    const first = [...part.slice(-2)].at(-1) ?? ''
    const before = part.slice(0, part.length - first.length)
    if (before.length > 0) pieces.push([before, true])
    if (first.length > 0) pieces.push([first, false])
  })
  return pieces
}
