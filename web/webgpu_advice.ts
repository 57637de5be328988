// What to do about a missing GPU, for the browser and system at hand.

/** How the browser names itself and where it runs. */
export interface Browser {
  /** `Chrome 140 on Linux`, as far as its user agent says. */
  readonly name: string;
  /** What gives this browser WebGPU, one or two sentences. */
  readonly advice: string;
}

/** From a user agent string; touch points tell an iPad from a Mac. */
export function describeBrowser(userAgent: string, maxTouchPoints: number): Browser {
  const system = systemOf(userAgent, maxTouchPoints);
  const [family, version] = familyOf(userAgent);
  const name = `${family}${version === '' ? '' : ` ${version}`} on ${system}`;
  return { name, advice: adviceFor(family, system) };
}

function systemOf(userAgent: string, maxTouchPoints: number): string {
  if (/iPhone|iPod/.test(userAgent)) return 'iOS';
  if (/iPad/.test(userAgent) || (/Macintosh/.test(userAgent) && maxTouchPoints > 1)) return 'iPadOS';
  if (/Android/.test(userAgent)) return 'Android';
  if (/CrOS/.test(userAgent)) return 'ChromeOS';
  if (/Windows/.test(userAgent)) return 'Windows';
  if (/Macintosh/.test(userAgent)) return 'macOS';
  return /Linux|X11/.test(userAgent) ? 'Linux' : 'this system';
}

function familyOf(userAgent: string): readonly [family: string, version: string] {
  const patterns = [
    ['Edge', /Edg(?:e|A|iOS)?\/(\d+)/],
    ['Firefox', /(?:Firefox|FxiOS)\/(\d+)/],
    ['Chrome', /(?:Headless)?(?:Chrome|CriOS)\/(\d+)/],
    ['Safari', /Version\/(\d+)[\d.]* .*Safari/],
  ] as const;
  for (const [family, pattern] of patterns) {
    const version = pattern.exec(userAgent)?.[1];
    if (version !== undefined) return [family, version];
  }
  return ['this browser', ''];
}

function adviceFor(family: string, system: string): string {
  if (system === 'iOS' || system === 'iPadOS') {
    return `Every browser on ${system} has WebGPU from ${system} 26 on; before that, it is a switch under Settings, Apps, Safari, Advanced, Feature Flags.`;
  }
  if (family === 'Firefox') {
    return system === 'Windows' || system === 'macOS'
      ? 'Update Firefox: it has WebGPU from version 141 on Windows and 145 on macOS with Apple silicon.'
      : `Firefox on ${system} keeps WebGPU behind dom.webgpu.enabled in about:config; Chrome has it without.`;
  }
  if (family === 'Safari') return 'Safari has WebGPU from version 26 on; update macOS, or use Chrome.';
  if (family === 'Chrome' || family === 'Edge') {
    const settings = family === 'Edge' ? 'edge' : 'chrome';
    if (system === 'Linux') {
      return `On Linux, switch on ${settings}://flags/#enable-unsafe-webgpu and #enable-vulkan; ${settings}://gpu says what is in the way.`;
    }
    return `Update ${family} and the graphics driver; ${settings}://gpu says what is in the way, and 'Use graphics acceleration' in its settings must be on.`;
  }
  return 'Current Chrome and Edge have WebGPU, Safari from version 26 on, Firefox on Windows and macOS.';
}
