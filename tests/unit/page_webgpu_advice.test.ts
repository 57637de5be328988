// What the page advises where there is no WebGPU, by browser and system.

import { expect, test } from 'vitest';
import { describeBrowser } from '../../web/webgpu_advice.js';

const CHROME = (system: string) =>
  `Mozilla/5.0 (${system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36`;
const LINUX = 'X11; Linux x86_64';
const WINDOWS = 'Windows NT 10.0; Win64; x64';
const MAC = 'Macintosh; Intel Mac OS X 10_15_7';

test.each([
  [CHROME(LINUX), 0, 'Chrome 140 on Linux', 'chrome://flags/#enable-unsafe-webgpu'],
  [CHROME(WINDOWS), 0, 'Chrome 140 on Windows', 'chrome://gpu'],
  [`${CHROME(WINDOWS)} Edg/140.0.0.0`, 0, 'Edge 140 on Windows', 'edge://gpu'],
  [CHROME('Linux; Android 10; K'), 5, 'Chrome 140 on Android', 'Update Chrome'],
  [CHROME('X11; CrOS x86_64 14541.0.0'), 0, 'Chrome 140 on ChromeOS', 'Update Chrome'],
  [`Mozilla/5.0 (${LINUX}; rv:130.0) Gecko/20100101 Firefox/130.0`, 0, 'Firefox 130 on Linux', 'about:config'],
  [`Mozilla/5.0 (${WINDOWS}; rv:130.0) Gecko/20100101 Firefox/130.0`, 0, 'Firefox 130 on Windows', 'version 141'],
  [
    `Mozilla/5.0 (${MAC}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15`,
    0,
    'Safari 17 on macOS',
    'version 26',
  ],
  [
    `Mozilla/5.0 (${MAC}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15`,
    5,
    'Safari 17 on iPadOS',
    'iPadOS 26',
  ],
  [
    'Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 CriOS/123.0 Mobile/15E148 Safari/604.1',
    5,
    'Chrome 123 on iOS',
    'iOS 26',
  ],
  ['curl/8', 0, 'this browser on this system', 'Current Chrome'],
])('%s with %d touch points', (userAgent, touchPoints, name, advice) => {
  const browser = describeBrowser(userAgent, touchPoints);
  expect(browser.name).toBe(name);
  expect(browser.advice).toContain(advice);
});
