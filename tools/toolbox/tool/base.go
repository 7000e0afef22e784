package tool

import (
	stdtar "archive/tar"
	"archive/zip"
	"cmp"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// entry is one file of a base image's layer. A nil reader and no target is a directory.
type entry struct {
	name   string
	mode   int64
	target string // of a symbolic link
	data   io.Reader
	size   int64
}

// base writes a layer of a built-in base image as a tar: "static" (certificates, time zones, users) or "toolbox" (this
// program and a link for each command), which lies over it. The same program writes the same bytes.
func base(p *Proc, commands []string) error {
	if err := need(p.Args, 1); err != nil {
		return err
	}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer exe.Close()
	st, err := exe.Stat()
	if err != nil {
		return err
	}
	var entries []entry
	switch p.Args[0] {
	case "static":
		zones, err := zoneEntries(exe, st.Size())
		if err != nil {
			return err
		}
		entries = append(staticEntries(), zones...)
	case "toolbox":
		entries = append(linkEntries(commands), entry{name: "bin/" + program, mode: 0o755, data: exe, size: st.Size()})
	default:
		return fmt.Errorf("no base %q", p.Args[0])
	}
	return writeLayer(p.Out, entries)
}

func staticEntries() []entry {
	text := func(name, content string) entry {
		return entry{name: name, mode: 0o644, data: strings.NewReader(content), size: int64(len(content))}
	}
	return []entry{
		{name: "dev/", mode: 0o755}, {name: "proc/", mode: 0o755}, {name: "sys/", mode: 0o755}, {name: "run/", mode: 0o755},
		{name: "etc/", mode: 0o755}, {name: "etc/ssl/", mode: 0o755}, {name: "etc/ssl/certs/", mode: 0o755},
		{name: "home/", mode: 0o755}, {name: "home/nonroot/", mode: 0o755}, {name: "root/", mode: 0o700}, {name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755}, {name: "usr/share/", mode: 0o755}, {name: "usr/share/zoneinfo/", mode: 0o755},
		{name: "var/", mode: 0o755}, {name: "var/tmp/", mode: 0o1777}, {name: "var/run", mode: 0o777, target: "../run"},
		text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nnonroot:x:65532:65532:nonroot:/home/nonroot:/bin/sh\n"),
		text("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\nnonroot:x:65532:\n"),
		text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
		text("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n"),
		text("etc/os-release", "ID=strata\nNAME=\"strata static\"\nPRETTY_NAME=\"strata built-in base\"\n"),
		text("etc/ssl/certs/ca-certificates.crt", certificates()),
	}
}

// certificates are the roots of Mozilla's program, those without further conditions, which a file cannot express.
func certificates() string {
	var blocks []string
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			blocks = append(blocks, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})))
		}
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "")
}

// zoneEntries reads the time zones from the zip that the build appends to the program.
func zoneEntries(exe io.ReaderAt, size int64) ([]entry, error) {
	z, err := zip.NewReader(exe, size)
	if err != nil {
		return nil, fmt.Errorf("this program was built without the time zones: %w", err)
	}
	var entries []entry
	for _, f := range z.File {
		name := "usr/share/zoneinfo/" + path.Clean(f.Name)
		if strings.HasSuffix(f.Name, "/") {
			continue // made below, whether the zip has them or not
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		for dir := path.Dir(name); dir != "usr/share/zoneinfo"; dir = path.Dir(dir) {
			entries = append(entries, entry{name: dir + "/", mode: 0o755})
		}
		entries = append(entries, entry{name: name, mode: 0o644, data: r, size: int64(f.UncompressedSize64)})
	}
	if len(entries) == 0 {
		return nil, errors.New("the time zones in this program are empty")
	}
	return entries, nil
}

func linkEntries(commands []string) []entry {
	entries := []entry{{name: "bin/", mode: 0o755}, {name: "usr/bin", mode: 0o777, target: "../bin"}}
	for _, c := range commands {
		entries = append(entries, entry{name: "bin/" + c, mode: 0o777, target: program})
	}
	return entries
}

// writeLayer writes a tar of the entries, sorted, each name once, all of one time and owner.
func writeLayer(w io.Writer, entries []entry) error {
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.name == b.name })
	t := stdtar.NewWriter(w)
	for _, e := range entries {
		h := &stdtar.Header{Name: e.name, Mode: e.mode, Linkname: e.target, Size: e.size, Typeflag: stdtar.TypeReg, ModTime: time.Unix(0, 0), Format: stdtar.FormatPAX}
		switch {
		case e.target != "":
			h.Typeflag = stdtar.TypeSymlink
		case e.data == nil:
			h.Typeflag = stdtar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if e.data != nil {
			if _, err := io.CopyN(t, e.data, e.size); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
		}
	}
	return t.Close()
}
