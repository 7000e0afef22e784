package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/oci"
)

func tarForm() layer.Options {
	o := options()
	o.TarForm = func() (bool, error) { return true, nil }
	return o
}

// show gives the layer's tree as a directory: as it lies, or mounted.
func show(t testing.TB, s *layer.Store, id oci.DiffID) string {
	t.Helper()
	p, err := s.Place(id)
	if err != nil {
		t.Fatal(err)
	}
	if p.Dir != "" {
		return p.Dir
	}
	m, err := mount.Erofs(p.Image, p.Tar)
	if errors.Is(err, errdef.ErrUnsupported) || errors.Is(err, errdef.ErrDenied) {
		t.Skipf("no EROFS here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return fmt.Sprintf("/proc/self/fd/%d/.", m.Fd())
}

// differ compares two trees, but for what a directory form on this disk cannot have.
func differ(a, b []string) string {
	var out []string
	for _, l := range a {
		if !slices.Contains(b, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}

// bothForms ingests raw in both forms and wants one tree, one tar and one record.
func bothForms(t testing.TB, raw []byte) {
	t.Helper()
	dirs, _ := open(t, options())
	tars, root := open(t, tarForm())
	want, werr := dirs.Ingest(t.Context(), bytes.NewReader(raw), "")
	got, gerr := tars.Ingest(t.Context(), bytes.NewReader(raw), "")
	if (werr == nil) != (gerr == nil) {
		t.Fatalf("directory form: %v\ntar form: %v", werr, gerr)
	}
	empty(t, root)
	if werr != nil {
		return
	}
	roundTrip(t, tars, raw)
	if got.Form != "tar" || got.DiffID != want.DiffID || got.Entries != want.Entries || got.Content != want.Content || got.Missing != want.Missing ||
		got.Root != want.Root || got.Opaque != want.Opaque || !slices.Equal(got.Implicit, want.Implicit) {
		t.Errorf("record\n%+v\nwant\n%+v", got, want)
	}
	if diff := differ(tree(t, show(t, dirs, want.DiffID)), tree(t, show(t, tars, got.DiffID))); diff != "" {
		t.Errorf("directory form (-), tar form (+):\n%s", diff)
	}
}

func TestTarForm(t *testing.T) {
	needRoot(t)
	for name, raw := range oddTars(t) {
		t.Run(name, func(t *testing.T) { bothForms(t, raw) })
	}
}

func TestTarFormAttributes(t *testing.T) {
	needRoot(t)
	at := func(sec int64, nsec int64, h *tar.Header) *tar.Header { h.ModTime = time.Unix(sec, nsec); return h }
	own := func(uid, gid int, h *tar.Header) *tar.Header { h.Uid, h.Gid = uid, gid; return h }
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	acl := func(entries ...string) string {
		text := "\x02\x00\x00\x00"
		for _, e := range entries {
			text += e
		}
		return text
	}
	ent := func(tag, perm byte, id byte) string { return string([]byte{tag, 0, perm, 0, id, 0, 0, 0}) }
	none := func(tag, perm byte) string { return string([]byte{tag, 0, perm, 0, 0xff, 0xff, 0xff, 0xff}) }
	plain := acl(none(1, 6), none(4, 4), none(0x20, 4))
	rich := acl(none(1, 7), ent(2, 5, 77), none(4, 4), none(0x10, 5), none(0x20, 1))
	x := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	long := strings.Repeat("n", 255)
	cases := map[string][]*tar.Header{
		"times":  {at(-1, 5, entry(tar.TypeReg, "old", "x")), at(-1<<31, 0, entry(tar.TypeDir, "d/")), at(1<<32, 999999999, entry(tar.TypeSymlink, "new", "t"))},
		"owners": {own(1<<32-2, 1<<32-2, entry(tar.TypeReg, "a", "x")), own(70000, 1, entry(tar.TypeDir, "d/"))},
		"modes":  {entry(tar.TypeReg, "a", 0o4755), entry(tar.TypeReg, "b", 0o2711), entry(tar.TypeDir, "d/", 0o1777), entry(tar.TypeReg, "c", 0)},
		"xattrs": {entry(tar.TypeReg, "a", "payload", x("user.x", "1", "user.empty", "", "trusted.t", "2", "security.capability", capability)),
			entry(tar.TypeDir, "d/", x("user.long", strings.Repeat("v", 900), "security.other", "o")), entry(tar.TypeSymlink, "l", "target", x("user.no", "x", "trusted.yes", "y"))},
		"refused xattrs": {entry(tar.TypeReg, "a", x("security.capability", "short", "system.foo", "x", "bad", "y", "user.", "z")), entry(tar.TypeFifo, "p", x("user.no", "x", "trusted.yes", "y")),
			entry(tar.TypeChar, "c", x("user.no", "x"))},
		"overlay xattrs": {entry(tar.TypeReg, "a", "x", x("trusted.overlay.metacopy", "", "trusted.overlay.redirect", "/etc/shadow", "user.overlay.opaque", "y")), entry(tar.TypeDir, "d/", x("trusted.overlay.opaque", "y"))},
		"acls": {entry(tar.TypeReg, "a", 0o600, x("system.posix_acl_access", rich)), entry(tar.TypeReg, "b", 0o600, x("system.posix_acl_access", plain)),
			entry(tar.TypeDir, "d/", x("system.posix_acl_access", rich, "system.posix_acl_default", plain)), entry(tar.TypeReg, "bad", x("system.posix_acl_access", plain[:20])),
			entry(tar.TypeReg, "nomask", x("system.posix_acl_access", acl(none(1, 7), ent(2, 5, 77), none(4, 4), none(0x20, 1)))), entry(tar.TypeSymlink, "l", "a", x("system.posix_acl_access", rich)),
			entry(tar.TypeReg, "default", x("system.posix_acl_default", plain))},
		"names":      {entry(tar.TypeReg, long, "x"), entry(tar.TypeReg, "d/"+long, "y"), entry(tar.TypeReg, "-", "z"), entry(tar.TypeReg, "..x", "z"), entry(tar.TypeReg, "\x01", "z")},
		"links":      {entry(tar.TypeReg, "a/f", "x"), entry(tar.TypeLink, "b/g", "a/f"), entry(tar.TypeLink, "c/h", "b/g"), entry(tar.TypeSymlink, "s", "a"), entry(tar.TypeLink, "t", "s"), entry(tar.TypeLink, "s/k", "s/f"), entry(tar.TypeFifo, "p"), entry(tar.TypeLink, "q", "p")},
		"targets":    {entry(tar.TypeSymlink, "a", strings.Repeat("t", 440)), entry(tar.TypeSymlink, "b", strings.Repeat("t", 448)), entry(tar.TypeSymlink, "c", strings.Repeat("t", 449)), entry(tar.TypeSymlink, "d", strings.Repeat("t", 4095)), entry(tar.TypeSymlink, "e", strings.Repeat("u", 4000), x("trusted.x", strings.Repeat("v", 600)))},
		"devices":    {{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3, Mode: 0o666}, {Typeflag: tar.TypeBlock, Name: "big", Devmajor: 259, Devminor: 70000, Mode: 0o600}, {Typeflag: tar.TypeChar, Name: "far", Devmajor: 4096, Devminor: 0, Mode: 0o600, Format: tar.FormatGNU}},
		"redirected": {entry(tar.TypeSymlink, "l", "/d/../d/e"), entry(tar.TypeReg, "l/f", "x"), entry(tar.TypeSymlink, "up", "../../.."), entry(tar.TypeReg, "up/g", "y"), entry(tar.TypeReg, "d/e/f", "again")},
		"sizes":      {entry(tar.TypeReg, "0"), entry(tar.TypeReg, "1", "1"), entry(tar.TypeReg, "511", strings.Repeat("x", 511)), entry(tar.TypeReg, "512", strings.Repeat("y", 512)), entry(tar.TypeReg, "513", strings.Repeat("z", 513)), entry(tar.TypeReg, "big", strings.Repeat("0123456789", 100_000))},
	}
	for name, list := range cases {
		t.Run(name, func(t *testing.T) { bothForms(t, archive(t, list...)) })
	}
	t.Run("many", func(t *testing.T) {
		var list []*tar.Header
		for i := range 3000 {
			list = append(list, entry(tar.TypeReg, fmt.Sprintf("d%d/file-with-a-name-%d", i%3, i), fmt.Sprint(i)))
		}
		bothForms(t, archive(t, list...))
	})
}

func TestTarFormRefusals(t *testing.T) {
	for name, list := range map[string][]*tar.Header{
		"owner": {{Typeflag: tar.TypeReg, Name: "a", Uid: 1<<32 - 1, Format: tar.FormatPAX}},
		"out":   {entry(tar.TypeReg, "../a")},
		"loop":  {entry(tar.TypeSymlink, "a", "b"), entry(tar.TypeSymlink, "b", "a"), entry(tar.TypeReg, "a/f", "x")},
		"name":  {entry(tar.TypeReg, strings.Repeat("n", 256))},
		"link":  {entry(tar.TypeLink, "a", "b")},
		"self":  {entry(tar.TypeReg, "a/b", "x"), entry(tar.TypeLink, "a", "a/b")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, o := range []layer.Options{options(), tarForm()} {
				s, root := open(t, o)
				_, err := s.Ingest(t.Context(), bytes.NewReader(archive(t, list...)), "")
				if !errors.Is(err, errdef.ErrInvalid) && !errors.Is(err, errdef.ErrLimit) {
					t.Errorf("error %v", err)
				}
				empty(t, root)
			}
		})
	}
}

// TestTarFormChecks finds what is missing or cut without reading it, names damaged files, and makes a lost index anew.
func TestTarFormChecks(t *testing.T) {
	s, dir, id, _ := rotten(t, tarForm())
	must(t, s.Check(t.Context(), id, layer.Quick), s.Check(t.Context(), id, layer.Full))
	big := strings.Repeat("0123456789abcdef", 10)
	raw, err := os.ReadFile(dir + "/tar")
	must(t, err)
	at := int64(bytes.Index(raw, []byte(big)))
	flip(t, dir+"/tar", at)
	wantErr(t, s.Check(t.Context(), id, layer.Digests), errdef.ErrCorrupt, "damaged: big")
	wantErr(t, s.Remake(t.Context(), id), errdef.ErrCorrupt, "diffID")
	flip(t, dir+"/tar", at)
	for _, name := range []string{"tar", "index.erofs"} {
		good, err := os.ReadFile(dir + "/" + name)
		must(t, err, os.Truncate(dir+"/"+name, 600))
		wantErr(t, s.Check(t.Context(), id, layer.Quick), errdef.ErrCorrupt, name)
		must(t, os.Remove(dir+"/"+name))
		wantErr(t, s.Check(t.Context(), id, layer.Quick), errdef.ErrCorrupt, name)
		if name == "tar" {
			must(t, os.WriteFile(dir+"/"+name, good, 0o600))
		}
	}
	must(t, os.Remove(dir+"/meta.json"), s.Remake(t.Context(), id), s.Check(t.Context(), id, layer.Full))
}
