# docs/options.md, from the options themselves.
{ pkgs }:
let
  inherit (pkgs) lib;
  inherit (lib.options) renderOptionValue;

  documented =
    title: text: modules:
    let
      evaluated = lib.evalModules {
        modules = modules ++ [
          {
            _module = {
              check = false;
              args = { inherit pkgs; };
            };
          }
        ];
      };
      options = lib.filter (
        option: option.visible && !option.internal && lib.head option.loc != "_module"
      ) (lib.optionAttrSetToDocList (lib.removeAttrs evaluated.options [ "_module" ]));
      value = rendered: if rendered ? text then rendered.text else (renderOptionValue rendered).text;
      # On one line as code, on several as a block.
      code =
        label: rendered:
        let
          shown = lib.trim (value rendered);
        in
        if lib.hasInfix "\n" shown then
          "${label}:\n\n```nix\n${shown}\n```\n"
        else
          "${label}: `${shown}`\n";
      one =
        option:
        lib.concatStringsSep "\n" (
          [
            "### `${option.name}`\n"
            "${lib.trim (option.description.text or option.description)}\n"
            "Type: ${option.type}\n"
          ]
          ++ lib.optional (option ? default && option.default.text or null != "null") (
            code "Default" option.default
          )
          ++ lib.optional (option ? example) (code "Example" option.example)
        );
    in
    "## ${title}\n\n${text}\n\n" + lib.concatMapStringsSep "\n" one options;
in
''
  # NixOS options

  Written by `make nix-options NIXPKGS=…` from the module; do not edit. What has no default is left to the program:
  [configuration.md](configuration.md).

''
+ documented "The host" "`services.gha-runner-controller`, of `nixosModules.default`." [
  {
    options.services.gha-runner-controller = import ./options.nix { inherit lib pkgs; };
  }
]
+ "\n"
+
  documented "The container" "`job`, in a template's configuration; beside it every option NixOS has."
    [ ./container.nix ]
