// Figures for people: bytes, times, rates, counts.

/** `1.5 GiB` */
export function inBytes(sizeBytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = sizeBytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toFixed(1))} ${units[unit]}`;
}

/** `21,504` */
export function inCount(value: number): string {
  return value.toLocaleString('en');
}

/** `3.7 µs`, `216 µs`, `1.24 ms` */
export function inTime(us: number): string {
  if (us < 10) return `${us.toFixed(2)} µs`;
  if (us < 100) return `${us.toFixed(1)} µs`;
  if (us < 1000) return `${us.toFixed(0)} µs`;
  if (us < 1e6) return `${Number((us / 1000).toPrecision(3))} ms`;
  return `${Number((us / 1e6).toPrecision(3))} s`;
}

/** `24.9 tokens/s`, `1,240 tokens/s` */
export function inPace(tokensPerSecond: number): string {
  const figure = tokensPerSecond >= 100 ? Math.round(tokensPerSecond) : Number(tokensPerSecond.toPrecision(3));
  return `${inCount(figure)} tokens/s`;
}

/** `4,086 GB/s`, `0.31 GB/s` */
export function inRate(gbps: number): string {
  return `${gbps >= 100 ? inCount(Math.round(gbps)) : Number(gbps.toPrecision(3))} GB/s`;
}
