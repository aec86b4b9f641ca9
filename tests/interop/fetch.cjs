// An independent TUF client (tuf-js) refreshes a repository and downloads one target.
// usage: node fetch.cjs METADATA_DIR BASE_URL TARGET TARGET_DIR   (METADATA_DIR holds root.json)
const { Updater } = require("tuf-js");

async function main() {
  const [metadataDir, base, target, targetDir] = process.argv.slice(2);
  const updater = new Updater({
    metadataDir,
    metadataBaseUrl: `${base}/metadata`,
    targetDir,
    targetBaseUrl: `${base}/targets`,
  });
  await updater.refresh();
  const found = await updater.getTargetInfo(target);
  if (!found) throw new Error(`no role names ${target}`);
  console.log(await updater.downloadTarget(found));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
