// Required into a process, writes the CPU time in ms that the process and its threads have used, when it ends.

const { writeFileSync } = require('node:fs');
const { isMainThread } = require('node:worker_threads');

if (isMainThread) {
  process.once('exit', () => {
    const { user, system } = process.cpuUsage();
    writeFileSync(process.env['CPU_TIME_FILE'] ?? '', JSON.stringify((user + system) / 1000));
  });
}
