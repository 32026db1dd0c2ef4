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
      got = settings.render {
        token_file = null;
        max_concurrent = 3;
        http.port = null;
        class = { };
      };
      expected.max_concurrent = 3;
    };
    what-people-named-stays = {
      got = settings.render {
        class.small = {
          min_idle = null;
          cache.lfs.size = null;
          network = {
            dns = [ ];
            internet = null;
            shared = [ "database" ];
          };
          docker.keep_size = null;
        };
        class.class.cpus = 2;
        template.debian.path = null;
        network.shared.database.interface = null;
      };
      expected = {
        class.small = {
          cache.lfs = { };
          network = {
            dns = [ ];
            shared = [ "database" ];
          };
        };
        class.class.cpus = 2;
        template.debian = { };
        network.shared.database = { };
      };
    };
    a-target-keeps-its-place = {
      got = settings.render {
        target = [
          {
            repo = "a/b";
            org = null;
          }
          { org = "c"; }
        ];
      };
      expected.target = [
        { repo = "a/b"; }
        { org = "c"; }
      ];
    };
    classes-with-docker-ask-the-image-cache-unless-they-name-a-mirror = {
      got =
        let
          written = {
            runners = [ "cpu-xs-docker" ];
            class.none = { };
            class.own.docker.enable = true;
            class.own.docker.mirror = "http://own";
            class.more.services = [ "db" ];
            class.more.docker.enable = true;
          };
        in
        settings.withImageCache (settings.classTables written) 5000 written;
      expected = {
        runners = [ "cpu-xs-docker" ];
        service.image-cache.address = "127.0.0.1:5000";
        class.cpu-xs-docker = {
          services = [ "image-cache" ];
          docker.mirror = "http://image-cache.host.internal:5000";
        };
        class.none = { };
        class.own.docker.enable = true;
        class.own.docker.mirror = "http://own";
        class.more.services = [
          "image-cache"
          "db"
        ];
        class.more.docker.enable = true;
        class.more.docker.mirror = "http://image-cache.host.internal:5000";
      };
    };
    every-class-asks-the-cache-of-nix = {
      got =
        let
          written = {
            class.a.nix.substituters = [ "http://own" ];
            class.a.services = [ "db" ];
            class.b.cpus = 1;
          };
        in
        (settings.withNixCache (settings.classTables written) 8501 written).class;
      expected = {
        a.services = [
          "nix-cache"
          "db"
        ];
        a.nix.substituters = [
          "http://nix-cache.host.internal:8501"
          "http://own"
        ];
        b.cpus = 1;
        b.services = [ "nix-cache" ];
        b.nix.substituters = [ "http://nix-cache.host.internal:8501" ];
      };
    };
    a-file-that-is-named-is-not-copied = {
      got = settings.render { http.token_file = /run/secrets/token; };
      expected.http.token_file = "/run/secrets/token";
    };
    former-names-become-the-files = {
      got = settings.tables {
        big-one = {
          minIdle = 1;
          caches.git-lfs.toolCache = true;
          docker.keepSize = "1G";
        };
      };
      expected.big-one = {
        min_idle = 1;
        cache.git-lfs.tool_cache = true;
        docker.keep_size = "1G";
      };
    };
    what-stands-around-a-value-stays = {
      got = settings.tables {
        _type = "merge";
        contents = [
          {
            big-one.minIdle = {
              _type = "override";
              priority = 1000;
              content = 1;
            };
          }
        ];
      };
      expected = {
        _type = "merge";
        contents = [
          {
            big-one.min_idle = {
              _type = "override";
              priority = 1000;
              content = 1;
            };
          }
        ];
      };
    };
    a-secrets-file-is-found-wherever-it-is = {
      got = map (file: file.name) (
        settings.secretFiles {
          settings.token_file = null;
          settings.webhook.secret_file = "/a";
          settings.target = [
            { repo = "a/b"; }
            { token_file = /b; }
          ];
          settings.credential.app.private_key_file = "/c";
        }
      );
      expected = [
        "settings.credential.app.private_key_file"
        "settings.target[1].token_file"
        "settings.webhook.secret_file"
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
    the-oldest-runner-is-the-documents = {
      got =
        builtins.match ".*The oldest that nix/oldest-runner.nix takes for accepted is ([0-9.]+[0-9]).*"
          (builtins.replaceStrings [ "\n  " ] [ " " ] (builtins.readFile ../../docs/github.md));
      expected = [ (import ../../nix/oldest-runner.nix) ];
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
