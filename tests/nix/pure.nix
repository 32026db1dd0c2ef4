# Our functions that need no nixpkgs: an empty list, or what is not as it should be.
let
  settings = import ../../nix/settings.nix;
  store = builtins.storeDir;

  cases = {
    a-name-is-written-as-in-the-file = {
      got = map settings.snake [
        "repo"
        "tokenFile"
        "maxConcurrentJobs"
      ];
      expected = [
        "repo"
        "token_file"
        "max_concurrent_jobs"
      ];
    };
    the-short-form-stands-for-classes = {
      got = map settings.classTables [
        { }
        {
          runners = [
            "cpu-small"
            "gpu-max-docker"
          ];
          class.cpu-small.memory = "5G";
          class.gpu-max-docker.docker.keep = true;
        }
      ];
      expected = [
        { default = { }; }
        {
          cpu-small.memory = "5G";
          gpu-max-docker.docker = {
            enable = true;
            keep = true;
          };
        }
      ];
    };
    a-hosts-name-fits-into-names-of-runners = {
      got = map settings.hostName [
        "Builder_1"
        "a-name-with-hyphen-at-twenty"
        ""
      ];
      expected = [
        "builder-1"
        "a-name-with-hyphen-a"
        null
      ];
    };
    what-is-not-set-is-left-to-the-program = {
      got = settings.make {
        options = {
          tokenFile = null;
          maxConcurrent = 3;
          http.port = null;
          classes = { };
        };
        targets = [ ];
      };
      expected.max_concurrent = 3;
    };
    names-people-choose-stay = {
      got = settings.make {
        options = {
          classes.bigOne = {
            minIdle = 1;
            caches.gitLfs.size = "1G";
          };
          classes.plainOne.labels = null;
          credentials.myApp.appId = 7;
          templates.debian.path = "/srv/debian";
          network.shared.testDb.destination = "10.0.0.1";
        };
      };
      expected = {
        class.bigOne = {
          min_idle = 1;
          cache.gitLfs.size = "1G";
        };
        class.plainOne = { };
        credential.myApp.app_id = 7;
        template.debian.path = "/srv/debian";
        network.shared.testDb.destination = "10.0.0.1";
      };
    };
    a-table-in-a-table-is-one-too-and-nothing-is-a-value = {
      got = settings.make {
        options.classes.small = {
          network = {
            dns = [ ];
            internet = null;
          };
          docker.keepSize = null;
        };
      };
      expected.class.small.network.dns = [ ];
    };
    a-target-keeps-its-place-and-its-keys = {
      got = settings.make {
        targets = [
          {
            repo = "a/b";
            pushedWithin = "30d";
            org = null;
          }
          { org = "c"; }
        ];
        settings.target = [ { repo = "d/e"; } ];
      };
      expected.target = [
        {
          repo = "a/b";
          pushed_within = "30d";
        }
        { org = "c"; }
        { repo = "d/e"; }
      ];
    };
    whatever-else-is-written-passes-and-wins = {
      got = settings.make {
        options = {
          maxConcurrent = 3;
          classes.small.cpus = 2;
        };
        settings = {
          max_concurrent = 4;
          webhook.port = 1;
          class.small.intake = "scale-set";
        };
      };
      expected = {
        max_concurrent = 4;
        webhook.port = 1;
        class.small = {
          cpus = 2;
          intake = "scale-set";
        };
      };
    };
    a-file-that-is-named-is-not-copied = {
      got = (settings.make { options.tokenFile = /run/secrets/token; }).token_file;
      expected = "/run/secrets/token";
    };
    nor-one-in-the-files-own-spelling = {
      got = settings.make { settings.http.token_file = /run/secrets/token; };
      expected.http.token_file = "/run/secrets/token";
    };
    a-secrets-file-is-found-wherever-it-is = {
      got = map (file: file.name) (
        settings.secretFiles {
          tokenFile = null;
          webhook.secretFile = "/a";
          targets = [
            { repo = "a/b"; }
            { tokenFile = /b; }
          ];
          settings.credential.app.private_key_file = "/c";
        }
      );
      expected = [
        "settings.credential.app.private_key_file"
        "targets[1].tokenFile"
        "webhook.secretFile"
      ];
    };
    a-key-that-is-written-twice-is-found = {
      got =
        settings.twice
          {
            maxConcurrent = 3;
            pollInterval = null;
            classes.small.cpus = 2;
          }
          {
            max_concurrent = 3;
            poll_interval = "1s";
            class.small = {
              cpus = 3;
              memory = "2G";
            };
          };
      expected = [
        "class.small.cpus"
        "max_concurrent"
      ];
    };
    a-file-in-the-store-is-told-from-one-outside = {
      got = map settings.inStore [
        "${store}/abc-token"
        (/. + "${store}/abc-token")
        "${store}-elsewhere/token"
        "/run/secrets/token"
      ];
      expected = [
        true
        true
        false
        false
      ];
    };
    a-lock-file-pins-one-input = {
      got = builtins.attrNames (builtins.fromJSON (builtins.readFile ../../flake.lock)).nodes;
      expected = [
        "nixpkgs"
        "root"
      ];
    };
    both-flakes-want-the-same-nixpkgs = {
      got =
        let
          wanted = (import ../../templates/default/flake.nix).inputs.nixpkgs.url;
          locked = (builtins.fromJSON (builtins.readFile ../../flake.lock)).nodes.nixpkgs.original;
        in
        [
          wanted
          "github:${locked.owner}/${locked.repo}/${locked.ref}"
        ];
      expected = [
        (import ../../flake.nix).inputs.nixpkgs.url
        (import ../../flake.nix).inputs.nixpkgs.url
      ];
    };
  };
in
builtins.filter (found: found != null) (
  map (
    name:
    let
      case = cases.${name};
    in
    if case.got == case.expected then null else { inherit name; } // case
  ) (builtins.attrNames cases)
)
