package cli

import (
	"cmp"
	"encoding/csv"
	"os"
	"strconv"
	"strings"

	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/reference"
)

// cacheFlags are those of build that say where cached steps come from and go to.
type cacheFlags struct {
	from, to, noCacheFilter []string
	contextModes            string
}

// options puts the flags into o.
func (f *cacheFlags) options(o *engine.BuildOptions) error {
	for _, spec := range f.from {
		from, err := cacheFrom(spec)
		if err != nil {
			return err
		}
		o.CacheFrom = append(o.CacheFrom, from...)
	}
	for _, spec := range f.to {
		to, err := cacheTo(spec)
		if err != nil {
			return err
		}
		o.CacheTo = append(o.CacheTo, to)
	}
	for _, names := range f.noCacheFilter {
		for name := range strings.SplitSeq(names, ",") {
			if name = strings.TrimSpace(name); name != "" {
				o.NoCacheFilter = append(o.NoCacheFilter, name)
			}
		}
	}
	switch f.contextModes {
	case "keep":
	case "git":
		o.PlainModes = true
	default:
		return usagef("--context-modes %q: want keep or git", f.contextModes)
	}
	return nil
}

// withEpoch adds SOURCE_DATE_EPOCH of the environment to the build arguments, as buildx does.
func withEpoch(args map[string]*string) {
	const name = "SOURCE_DATE_EPOCH"
	if _, given := args[name]; given {
		return
	}
	if value := os.Getenv(name); value != "" {
		args[name] = &value
	}
}

// cacheFields reads "key=value,…" as buildx does.
func cacheFields(flag, spec string, known ...string) (map[string]string, error) {
	fields, err := csv.NewReader(strings.NewReader(spec)).Read()
	if err != nil {
		return nil, usagef("--%s %q: %v", flag, spec, err)
	}
	values := map[string]string{}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" {
			return nil, usagef("--%s %q: %q is no KEY=VALUE", flag, spec, field)
		}
		values[key] = value
	}
	kind := values["type"]
	switch kind {
	case "registry", "local":
	case "inline":
		return nil, usageError{errdef.WithHint(usagef("--%s type=inline: a cache inside the image is not supported", flag),
			"keep it beside the image: --cache-to type=registry,ref=NAME:cache")}
	case "":
		return nil, usagef("--%s %q: type is missing; want type=registry,ref=NAME or type=local,%s=DIR", flag, spec, known[0])
	default:
		return nil, usagef("--%s %q: type %q: want registry or local", flag, spec, kind)
	}
	for key := range values {
		if key != "type" && key != "ref" && !word(strings.Join(known, " "), key) {
			return nil, usagef("--%s %q: unexpected %q", flag, spec, key)
		}
	}
	if place := map[string]string{"registry": "ref", "local": known[0]}[kind]; values[place] == "" {
		return nil, usagef("--%s %q: %s is missing", flag, spec, place)
	}
	if kind == "registry" {
		if _, err := reference.Parse(values["ref"]); err != nil {
			return nil, usagef("--%s %q: %w", flag, spec, err)
		}
	}
	return values, nil
}

// cacheFrom reads --cache-from: key=value fields, or docker's short form, names of images.
func cacheFrom(spec string) ([]engine.CacheImport, error) {
	if !strings.Contains(spec, "=") {
		var all []engine.CacheImport
		for name := range strings.SplitSeq(spec, ",") {
			if _, err := reference.Parse(name); err != nil {
				return nil, usagef("--cache-from %q: %w", spec, err)
			}
			all = append(all, engine.CacheImport{Ref: name, Short: true})
		}
		return all, nil
	}
	v, err := cacheFields("cache-from", spec, "src", "tag", "digest")
	if err != nil {
		return nil, err
	}
	if v["type"] == "registry" {
		return []engine.CacheImport{{Ref: v["ref"]}}, nil
	}
	return []engine.CacheImport{{Dir: v["src"], Tag: v["tag"], Digest: v["digest"]}}, nil
}

// cacheTo reads --cache-to.
func cacheTo(spec string) (engine.CacheExport, error) {
	var o engine.CacheExport
	if !strings.Contains(spec, "=") {
		spec = "type=registry,ref=" + spec // docker's short form
	}
	v, err := cacheFields("cache-to", spec, "dest", "tag", "mode", "compression", "compression-level", "force-compression",
		"oci-mediatypes", "image-manifest", "ignore-error")
	if err != nil {
		return o, err
	}
	bad := func(key, want string) error { return usagef("--cache-to %q: %s %q: want %s", spec, key, v[key], want) }
	switch v["mode"] {
	case "", "min":
	case "max":
		o.Max = true
	default:
		return o, bad("mode", "min or max")
	}
	for key, to := range map[string]*bool{"force-compression": &o.Force, "ignore-error": &o.IgnoreError, "oci-mediatypes": nil, "image-manifest": nil} {
		if v[key] == "" {
			continue
		}
		on, err := strconv.ParseBool(v[key])
		if err != nil || to == nil && !on {
			return o, bad(key, map[bool]string{true: "true, as it is always written", false: "true or false"}[to == nil])
		}
		if to != nil {
			*to = on
		}
	}
	if o.Compression = v["compression"]; o.Compression == "uncompressed" {
		o.Compression = layer.None
	}
	if text := v["compression-level"]; text != "" {
		if o.Level, err = strconv.Atoi(text); err != nil {
			return o, bad("compression-level", "a number")
		}
	}
	if err := layer.CheckCompression(cmp.Or(o.Compression, layer.Gzip), o.Level); err != nil {
		return o, usagef("--cache-to %q: %w", spec, err)
	}
	if v["type"] == "registry" {
		o.Ref = v["ref"]
	} else {
		o.Dir, o.Tag = v["dest"], v["tag"]
	}
	return o, nil
}
