# The configuration file that sets every option of the module, to the option's description: what can be said of
# nix/options.nix without nixpkgs, of whose library it uses no more than this.
let
  leaf = { };
  types = {
    bool = leaf;
    deferredModule = leaf;
    either = _: _: leaf;
    enum = _: leaf;
    ints = {
      between = _: _: leaf;
      positive = leaf;
      unsigned = leaf;
    };
    numbers = types.ints;
    nullOr = _: leaf;
    package = leaf;
    path = leaf;
    port = leaf;
    str = leaf;
    strMatching = _: leaf;
    # With one element each, whatever people would call it.
    submodule = table: {
      all = (if builtins.isList table then builtins.head table else table).options;
    };
    attrsOf = type: if type ? all then { all.NAME = type.all; } else leaf;
    listOf = type: if type ? all then { all = [ type.all ]; } else leaf;
  };
  lib = {
    inherit types;
    literalExpression = text: text;
    mkEnableOption = description: description;
    mkOption = option: option.type.all or option.description;
    mkPackageOption =
      _: name: _:
      name;
  };
  pkgs = {
    callPackage = _: _: leaf;
    formats.json = _: { type = leaf; };
  };
in
(import ../../nix/options.nix { inherit lib pkgs; }).settings
