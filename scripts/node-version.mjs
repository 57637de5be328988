// Refuses a Node that the build tools do not run on. Imported first, and for this effect only.

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

if (major < 20 || major === 21 || (major === 20 && minor < 19) || (major === 22 && minor < 12)) {
  console.error(
    `samebits needs Node 20.19 or newer (of 22: 22.12 or newer; not 21). This is Node ${process.versions.node}, ${process.execPath}.\n` +
      'Install a newer one, for example from https://nodejs.org or with your version manager, and run this again.',
  );
  process.exit(1);
}
