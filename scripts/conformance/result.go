package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"strata/internal/oci"
)

// result is an image as lines of a key and a value: the paths of its tree that its base has not or has otherwise, the keys of
// its config that are set, and its own entries of the history. Or the one key "fails".
type result []entry

type entry struct{ key, value string }

// failed is the key of the result of a build that gives no image.
const failed = "fails"

// fails is the result of a build that gives no image.
func fails() result { return result{{failed, ""}} }

func (r result) failed() bool { return len(r) == 1 && r[0].key == failed }

func parseLine(l string) entry {
	key, value, _ := strings.Cut(l, " ")
	if key == "history" {
		n, rest, _ := strings.Cut(value, " ")
		key, value = key+" "+n, rest
	}
	return entry{key, value}
}

func parseResult(all []string) (result, error) {
	r := result{}
	for _, l := range all {
		r = append(r, parseLine(l))
	}
	return r, nil
}

func (r result) String() string {
	var b strings.Builder
	for _, e := range r {
		b.WriteString(strings.TrimRight(e.key+" "+e.value, " ") + "\n")
	}
	return b.String()
}

// difference lists the lines that are not the same.
func difference(want, got result) []string {
	switch a, b := want.failed(), got.failed(); {
	case a && b:
		return nil
	case a:
		return []string{"  BuildKit fails, strata does not:\n    " + strings.ReplaceAll(strings.TrimSpace(got.String()), "\n", "\n    ") + "\n"}
	case b:
		return []string{"  strata fails, BuildKit does not\n"}
	}
	have := map[string]string{}
	for _, e := range got {
		have[e.key] = e.value
	}
	var diff []string
	for _, e := range want {
		value, ok := have[e.key]
		delete(have, e.key)
		switch {
		case !ok:
			diff = append(diff, fmt.Sprintf("  %s\n    BuildKit: %s\n    strata:   (nothing)\n", e.key, e.value))
		case strings.TrimRight(value, " ") != strings.TrimRight(e.value, " "):
			diff = append(diff, fmt.Sprintf("  %s\n    BuildKit: %s\n    strata:   %s\n", e.key, e.value, value))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(have)) {
		diff = append(diff, fmt.Sprintf("  %s\n    BuildKit: (nothing)\n    strata:   %s\n", k, have[k]))
	}
	return diff
}

// reader makes results of images. It remembers the trees of the bases.
type reader struct {
	bases []baseTree
}

type baseTree struct {
	ids     []oci.DiffID
	history int
	flat    map[string]string
}

// openLayer gives a layer's tar.
type openLayer func(id oci.DiffID) (io.ReadCloser, error)

// base remembers an image that others stand on.
func (r *reader) base(img *oci.Image, open openLayer) error {
	t, err := readTree(img.RootFS.DiffIDs, open)
	r.bases = append(r.bases, baseTree{img.RootFS.DiffIDs, len(img.History), t.flat()})
	return err
}

func readTree(ids []oci.DiffID, open openLayer) (tree, error) {
	t := tree{"/": &node{kind: 'd', mode: 0o755}}
	for _, id := range ids {
		f, err := open(id)
		if err != nil {
			return nil, err
		}
		err = t.apply(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", id, err)
		}
	}
	return t, nil
}

// read makes an image's result.
func (r *reader) read(img *oci.Image, open openLayer) (result, error) {
	t, err := readTree(img.RootFS.DiffIDs, open)
	if err != nil {
		return nil, err
	}
	base := baseTree{flat: map[string]string{"/": "d 0755 0:0"}}
	for _, b := range r.bases {
		ids := img.RootFS.DiffIDs
		if len(b.ids) >= len(base.ids) && len(b.ids) <= len(ids) && slices.Equal(b.ids, ids[:len(b.ids)]) && b.history >= base.history && b.history <= len(img.History) {
			base = b
		}
	}
	flat := t.flat()
	var out result
	for _, p := range slices.Sorted(maps.Keys(flat)) {
		if base.flat[p] != flat[p] {
			out = append(out, entry{escaped(p), flat[p]})
		}
	}
	for _, p := range slices.Sorted(maps.Keys(base.flat)) {
		if _, ok := flat[p]; !ok {
			out = append(out, entry{escaped(p), "gone"})
		}
	}
	config, err := readConfig(img)
	return append(append(out, config...), readHistory(img, base.history)...), err
}

// escaped makes a path one word.
func escaped(p string) string {
	q := fmt.Sprintf("%q", p)
	return strings.ReplaceAll(q[1:len(q)-1], " ", `\x20`)
}

// readConfig lists the config's keys in the order of their names.
func readConfig(img *oci.Image) (result, error) {
	raw, err := json.Marshal(img.Config)
	if err != nil {
		return nil, err
	}
	keys := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, err
	}
	if img.Author != "" {
		keys["Author"] = json.RawMessage(fmt.Sprintf("%q", img.Author))
	}
	var out result
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		out = append(out, entry{k, string(keys[k])})
	}
	return out, nil
}

// readHistory lists the entries that are not the base's.
func readHistory(img *oci.Image, skip int) result {
	var out result
	for i, h := range img.History[skip:] {
		kind := "layer"
		if h.EmptyLayer {
			kind = "empty"
		}
		out = append(out, entry{fmt.Sprintf("history %d", i+1), kind + " " + fmt.Sprintf("%q", h.CreatedBy)})
	}
	return out
}
