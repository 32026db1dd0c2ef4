//! Debian's registry of images in the internet of the lab, with one image, `box:1`.

use std::fs;

use anyhow::{Context, Result};
use lab::{Cache, Lab, Place, Recipe, Running, Tree};

/// Pushes the image, of one static program, which comes as standard input, to the registry `$1`.
const PUSH: &str = r#"
at=$(mktemp -d); cd "$at"; mkdir -p image/bin image/tmp; chmod 1777 image/tmp
cat > image/bin/busybox; chmod 755 image/bin/busybox
for name in sh cat httpd id ls sleep tail wget; do ln -s busybox image/bin/$name; done
sum() { sha256sum "$1" | cut -d ' ' -f 1; }
push() {
    to=$(curl -fsS --retry 30 --retry-connrefused --retry-delay 1 -X POST -D - -o /dev/null \
        "$1/v2/library/box/blobs/uploads/" | tr -d '\r' | sed -n 's/^location: //Ip')
    curl -fsS -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$2" "$to&digest=sha256:$(sum "$2")"
}
tar -C image --owner=0 --group=0 --numeric-owner -c . > layer; gzip -k layer
serve='echo served > /tmp/index.html; exec httpd -f -p 80 -h /tmp'
printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh","-c","%s"]},
    "rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$serve" "$(sum layer)" > config
push "$1" layer.gz; push "$1" config
part() { printf '{"mediaType":"application/vnd.docker.%s","size":%s,"digest":"sha256:%s"}' "$1" "$(stat -c %s "$2")" "$(sum "$2")"; }
type=application/vnd.docker.distribution.manifest.v2+json
printf '{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s]}' $type "$(part container.image.v1+json config)" \
    "$(part image.rootfs.diff.tar.gzip layer.gz)" > manifest
curl -fsS -X PUT -H "Content-Type: $type" --data-binary @manifest "$1/v2/library/box/manifests/1"
rm -r "$at"
"#;

/// Where it is.
pub fn address() -> String {
    format!("http://{}:5000", Place::Internet.address())
}

/// Serves it until what is returned is dropped. Its program is one of [`Recipe::DOCKER`]'s tree.
pub fn serve(lab: &Lab) -> Result<Running> {
    let tree = Tree::ensure(&Cache::open()?, &Recipe::DOCKER)?;
    let root = tree.path().to_str().context("a path that is no text")?;
    let serving = lab
        .spawn_in(Place::Internet, &["chroot", root, "docker-registry", "serve", "/etc/docker/registry/config.yml"])?;
    let busybox = fs::read(tree.path().join("bin/busybox"))?;
    lab.exec_with_input(Place::Host, &["sh", "-euc", PUSH, "push", &address()], &busybox)?.check()?;
    Ok(serving)
}
