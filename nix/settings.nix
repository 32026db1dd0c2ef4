# From the module's options to the configuration file: names in the file's spelling, nothing that was left out.
# Pure, and of `builtins` alone, so that it can be evaluated and tested without nixpkgs.
let
  inherit (builtins)
    attrNames
    concatStringsSep
    elemAt
    filter
    isAttrs
    isList
    isPath
    listToAttrs
    mapAttrs
    replaceStrings
    split
    stringLength
    substring
    ;

  capitals = filter (c: c != "") (filter builtins.isString (split "" "ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
  small = filter (c: c != "") (filter builtins.isString (split "" "abcdefghijklmnopqrstuvwxyz"));

  # maxConcurrent -> max_concurrent
  snake =
    name:
    concatStringsSep "" (
      map (part: if isList part then "_" + replaceStrings capitals small (elemAt part 0) else part) (
        split "([A-Z])" name
      )
    );

  # Without what was not set. A path stays a name: a file that is named is never copied into the store.
  section =
    attrs:
    listToAttrs (
      map (name: {
        name = snake name;
        value = if isPath attrs.${name} then toString attrs.${name} else attrs.${name};
      }) (filter (name: attrs.${name} != null) (attrNames attrs))
    );

  # What is written twice is decided by `over`.
  merge =
    under: over:
    under
    // mapAttrs (
      name: value:
      if isAttrs value && isAttrs (under.${name} or null) then merge under.${name} value else value
    ) over;

  isEmpty = value: value == { } || value == [ ];
  withoutEmpty =
    attrs:
    listToAttrs (
      map (name: {
        inherit name;
        value = attrs.${name};
      }) (filter (name: !isEmpty attrs.${name}) (attrNames attrs))
    );

  storeDir = builtins.storeDir + "/";
in
{
  inherit snake merge;

  # Whether a file would lie where every user can read it.
  inStore = path: substring 0 (stringLength storeDir) (toString path) == storeDir;

  # The whole configuration file.
  #   top: options of the file's first level; http, network, github: tables;
  #   credentials, classes, templates: tables by name; targets: a list; settings: whatever else, which wins.
  make =
    {
      top ? { },
      http ? { },
      network ? { },
      github ? { },
      credentials ? { },
      targets ? [ ],
      classes ? { },
      templates ? { },
      settings ? { },
    }:
    merge (withoutEmpty (
      section top
      // {
        http = section http;
        network = section network;
        github = section github;
        credential = mapAttrs (_: section) credentials;
        class = mapAttrs (_: section) classes;
        template = mapAttrs (_: section) templates;
      }
    )) (settings // withoutEmpty { target = map section targets ++ settings.target or [ ]; });
}
