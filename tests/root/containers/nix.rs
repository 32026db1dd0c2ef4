//! Nix inside: a store of the job's own over the host's, which nothing the job does can change.

use std::{fs, path::Path, process::Command, time::Instant};

use lab::Recipe;

use crate::{
    assert_nothing_left,
    host::{Host, HostConfig},
    served::Served,
};

const JOB: &str = r#"
say "Listening for Jobs"
say "Running job: nix"
set -ex
sudo -n true
# The stand-in is faster than any runner: the socket may be a moment away.
until [ -S /nix/var/nix/daemon-socket/socket ]; do sleep 0.05; done
greeting=$(echo /nix/store/*-greeting)
tools=$(echo /nix/store/*-tools)
cat $greeting
# Whether the database knows the host's paths, and what is in them is what it says.
nix-store --query --references $greeting | sed 's/^/refers to: /'
nix-store --verify-path $greeting $tools && echo "verified"
[ "$(hostname)" != j0000902 ] || echo "before: $(ls /nix/store | grep -c thing || true)"
mkdir -p /tmp/flake/tools
cp /bin/busybox /tmp/flake/tools/
cat > /tmp/flake/flake.nix <<'END'
{
  outputs = { self }: {
    packages.x86_64-linux.default = derivation {
      name = "thing";
      system = "x86_64-linux";
      builder = "${./tools}/busybox";
      args = [ "sh" "-c" "echo built as $(${./tools}/busybox id -u) > $out" ];
    };
  };
}
END
begun=$(date +%s%N)
nix build --no-write-lock-file path:/tmp/flake -o /tmp/thing
echo "nix build: $(( ($(date +%s%N) - begun) / 1000000 )) ms"
sed 's/^/flake: /' /tmp/thing
# One that needs what the host's store has.
TOOLS=$tools GREETING=$greeting nix build --impure -o /tmp/other --expr 'derivation {
    name = "other-thing"; system = "x86_64-linux";
    builder = builtins.storePath (builtins.getEnv "TOOLS") + "/busybox";
    args = [ "sh" "-c" "while read -r line; do echo \"$line\"; done < $greeting > $out" ];
    greeting = builtins.storePath (builtins.getEnv "GREETING");
}'
sed 's/^/beside the host: /' /tmp/other
ps -C nix-daemon -o user= | sort -u | sed 's/^/daemon of: /'
# A job may do what it likes to its own store.
sudo chmod u+w $greeting; sudo sh -c "echo changed > $greeting"; sudo rm -rf $tools
sudo nix-store --delete --ignore-liveness $greeting || true
ls /nix/store | wc -l
sudo mount -o remount,rw /nix/store || true
say "Job nix completed with result: Succeeded"
"#;

#[test]
fn a_job_builds_with_nix_in_a_store_of_its_own_and_the_hosts_stays_as_it_is() {
    let config = HostConfig {
        job: JOB.to_owned(),
        tree: Recipe::NIX,
        // As a host has it: whoever got there could change it.
        setup: "cp -a $template/srv/host-nix /var/lib/host-nix".to_owned(),
        template: "nix_store = \"/var/lib/host-nix/nix/store\"".to_owned(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let state = || {
        host.lab
            .shell("cd /var/lib/host-nix; find . -printf '%p %u %m %s %T@\\n' | sort; find . -type f | sort | xargs sha256sum")
            .unwrap()
    };
    let store = state();
    assert!(store.contains("-greeting"), "{store}");
    let before = host.lab.leftovers().unwrap();
    for (name, subnet) in [("j0000901", 1), ("j0000902", 2)] {
        host.hand_over(name, subnet);
        let begun = Instant::now();
        host.start(name).unwrap_or_else(|error| panic!("{error}"));
        host.ending(name);
        let journal = host.journal(name);
        println!("{name} in {:.1?}:\n{journal}", begun.elapsed());
        for line in [
            "made for the host beside /nix/store/",
            "refers to: /nix/store/",
            "verified",
            "flake: built as",
            "beside the host: made for the host beside",
            "daemon of: root",
            "Job nix completed with result: Succeeded",
        ] {
            assert!(journal.lines().any(|found| found.contains(line) && !found.contains("+ ")), "{line}");
        }
        assert_eq!(state(), store, "the host's store was changed");
    }
    assert!(host.journal("j0000902").contains("before: 0"), "what one job built, another sees");
    assert_nothing_left(&host, &before);
}

/// Makes a binary cache in `$1` of two paths, each signed by a key of its own. Nothing is built by a program, so nothing is
/// needed for it but Nix.
const FAR: &str = r#"
set -eu
cd "$1"
export HOME="$1" NIX_CONFIG="experimental-features = nix-command
build-users-group =
sandbox = false
substituters ="
cat > far.nix <<'END'
name: derivation {
  inherit name; system = "x86_64-linux"; builder = "builtin:buildenv"; derivations = [ ];
  manifest = builtins.toFile "${name}-text" "made by ${name}";
}
END
mkdir cache
for name in friend stranger; do
    nix-store --generate-binary-cache-key $name secret.$name public.$name
    path=$(nix --store "$1/store" eval --raw --impure --expr "(import $1/far.nix \"$name\").outPath")
    nix --store "$1/store" build --impure --no-link --expr "import $1/far.nix \"$name\""
    nix copy --from "$1/store" --to "file://$1/cache?secret-key=$1/secret.$name" "$path"
    echo "$path" > path.$name
done
# As they are served.
cd cache
for file in nix-cache-info *.narinfo; do mv "$file" "_$file"; done
for file in nar/*; do mv "$file" "_nar_${file#nar/}"; done
"#;

#[test]
fn what_is_built_already_comes_from_the_caches_that_the_class_names_if_a_key_of_its_vouches_for_it() {
    if Command::new("nix").arg("--version").output().is_err() {
        println!("skipped: no nix (Debian: nix-bin)");
        return;
    }
    let far = tempfile::tempdir().unwrap();
    let made = Command::new("sh").args(["-c", FAR, "far"]).arg(far.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |file: &str| fs::read_to_string(far.path().join(file)).unwrap().trim().to_owned();
    let job = r#"
        say "Listening for Jobs"
        until [ -S /nix/var/nix/daemon-socket/socket ]; do sleep 0.05; done
        nix-store --realise FRIEND > /dev/null && echo "fetched: $(cat FRIEND/manifest.nix)"
        nix-store --realise STRANGER || echo "not fetched: $?"
    "#;
    let class = format!(
        "services = [\"cache\"]\n[service.cache]\naddress = \"{}\"\n[class.medium.network]\ninternet = false\n\
         [class.medium.nix]\nsubstituters = [\"http://cache.host.internal:5000\"]\ntrusted_public_keys = [\"{}\"]\n",
        Served::at(),
        read("public.friend")
    );
    let config = HostConfig {
        job: job.replace("FRIEND", &read("path.friend")).replace("STRANGER", &read("path.stranger")),
        tree: Recipe::NIX,
        setup: "cp -a $template/srv/host-nix /var/lib/host-nix".to_owned(),
        template: "nix_store = \"/var/lib/host-nix/nix/store\"".to_owned(),
        class,
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let files = host.lab.shared().join("cache");
    copy(&far.path().join("cache"), &files);
    let cache = Served::start(&host, &files);
    let before = host.lab.leftovers().unwrap();
    for (name, subnet) in [("j0000911", 1), ("j0000912", 2)] {
        host.hand_over(name, subnet);
        host.start(name).unwrap_or_else(|error| panic!("{error}"));
        host.ending(name);
        let journal = host.journal(name);
        for line in ["fetched: made by friend", "not fetched: "] {
            assert!(journal.contains(line), "{line}:\n{journal}");
        }
        // The path and what it refers to, once in each job.
        let downloads = 2 * subnet as usize;
        assert_eq!(cache.downloads("/nar/"), downloads, "{name}:\n{journal}");
    }
    assert_nothing_left(&host, &before);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
