// Bits as pictures: a digest as a fingerprint of 256 squares, an output value as a row of its bits.

const SVG = 'http://www.w3.org/2000/svg';
const COLUMNS = 32;
/** Bits after which a value's row has a gap: sign, exponent, significand. */
const FIELD_ENDS: Readonly<Record<number, readonly number[]>> = { 32: [1, 9], 16: [1, 9] };
const CELL = 4;
const SQUARE = 3.2;

/** 256 bits in eight rows; equal digests make equal pictures. */
export function fingerprint(sha256: string, label: string): SVGSVGElement {
  const svg = figure(COLUMNS * CELL, 8 * CELL, label);
  const set: string[] = [];
  const clear: string[] = [];
  for (let i = 0; i < 256; i++) {
    const bit = (Number.parseInt(sha256[i >> 2]!, 16) >> (3 - (i & 3))) & 1;
    (bit ? set : clear).push(square((i % COLUMNS) * CELL, Math.floor(i / COLUMNS) * CELL));
  }
  svg.append(path(clear, 'bit-clear'), path(set, 'bit-set'));
  return svg;
}

/** The bits of one output, `0x3f800000` or `0x3f80`, sign first; those that differ from `other` are marked. */
export function bitRow(hex: string, other: string, label: string): SVGSVGElement {
  const width = (hex.length - 2) * 4;
  const value = Number.parseInt(hex, 16);
  const difference = value ^ Number.parseInt(other, 16);
  const ends = FIELD_ENDS[width] ?? [];
  const svg = figure((width + ends.length) * CELL, CELL, label);
  const groups: Record<string, string[]> = { 'bit-clear': [], 'bit-set': [], 'bit-differs': [] };
  for (let i = 0; i < width; i++) {
    const isSet = (value >>> (width - 1 - i)) & 1;
    const differs = (difference >>> (width - 1 - i)) & 1;
    const gaps = ends.filter((end) => i >= end).length;
    const at = square((i + gaps) * CELL, 0);
    groups[isSet ? 'bit-set' : 'bit-clear']!.push(at);
    if (differs) groups['bit-differs']!.push(at);
  }
  for (const [name, squares] of Object.entries(groups)) svg.append(path(squares, name));
  return svg;
}

function figure(width: number, height: number, label: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label);
  return svg;
}

function path(squares: readonly string[], name: string): SVGPathElement {
  const made = document.createElementNS(SVG, 'path');
  made.setAttribute('class', name);
  made.setAttribute('d', squares.join(''));
  return made;
}

function square(x: number, y: number): string {
  const inset = (CELL - SQUARE) / 2;
  return `M${x + inset} ${y + inset}h${SQUARE}v${SQUARE}h-${SQUARE}z`;
}
