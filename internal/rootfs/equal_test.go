package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/oci"
	"strata/internal/rootfs"
)

// stacksEnv is how many random stacks are compared, or which: FROM-TO, the last not included. Without it, few enough for
// every run of the tests.
const stacksEnv = "STRATA_TEST_STACKS"

// TestEqualTrees holds that a stack of layers shows one tree: layers as directories, as tars, both mixed, by each driver, and
// what tar(1) makes of them in order, the marks applied by hand.
func TestEqualTrees(t *testing.T) {
	tars, _ := tarStore(t)
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar(1)")
	}
	root := t.TempDir()
	dirs, err := layer.Open(filepath.Join(root, "layers"), layer.Options{})
	must(t, err)
	stores := &mixture{dirs: dirs, tars: tars}
	forms, drivers := stores.forms(root)
	from, to, each := 0, 300, 1
	if text := os.Getenv(stacksEnv); text != "" {
		first, last, ranged := strings.Cut(text, "-")
		if !ranged {
			first, last = "0", text
		}
		from, err = strconv.Atoi(first)
		must(t, err)
		to, err = strconv.Atoi(last)
		must(t, err)
		each = len(drivers)
	}
	if testing.Short() {
		to = from + 20
	}
	gen := rapid.Custom(func(t *rapid.T) [][]byte { return drawStack(t) })
	refused := 0
	for i := from; i < to; i++ {
		if i%200 == 199 { // each keeps what it has mounted
			forms, drivers = stores.forms(root)
			runtime.GC()
		}
		stack := gen.Example(i)
		all := slices.Clone(forms)
		for k := range each { // by turns, where not all of them
			all = append(all, drivers[(i+k)%len(drivers)])
		}
		err := compareForms(t, all, stack, root)
		if errors.Is(err, errFuse) {
			refused++
			continue
		}
		if err != nil {
			t.Fatalf("%s=%d-%d: %v", stacksEnv, i, i+1, err)
		}
	}
	t.Logf("%d stacks, each the same tree %d ways; fuse-overlayfs could not list %d", to-from, len(forms)+each+1, refused)
	if refused > 3+(to-from)/100 {
		t.Errorf("fuse-overlayfs listed too few")
	}
}

type form struct {
	name   string
	layers *layer.Store // nil: another form's
	stacks *rootfs.Stacks
	// apart: the names of one file are shown as files of equal content, as fuse-overlayfs does.
	apart bool
}

// errFuse says that fuse-overlayfs could not list a tree: version 1.10 answers a few of them with ENOMEM. The
// forms before it were compared.
var errFuse = errors.New("fuse-overlayfs is out of memory")

// linked is what describe says of a further name of a file.
var linked = regexp.MustCompile(` = [^ ]+`)

// lines are what is expected of the form where the tree is as described.
func (f form) lines(described []string) []string {
	if !f.apart {
		return described
	}
	lines := make([]string, len(described))
	for i, l := range described {
		lines[i] = linked.ReplaceAllString(l, "")
	}
	return lines
}

// mixture has every other layer as a directory.
type mixture struct{ dirs, tars *layer.Store }

// forms are the forms of layers by the kernel's overlay, the first one the others' model, and what the other drivers show.
func (m *mixture) forms(dir string) (forms, drivers []form) {
	show := func(of rootfs.Layers, name, driver string) *rootfs.Stacks {
		return rootfs.New(of, filepath.Join(dir, name), rootfs.Options{Driver: driver})
	}
	forms = []form{
		{name: "directories", layers: m.dirs, stacks: show(m.dirs, "dirs", "")},
		{name: "tars", layers: m.tars, stacks: show(m.tars, "tars", "")},
		{name: "mixed", stacks: show(m, "mixed", "")},
	}
	drivers = []form{
		{name: "directories, copied", stacks: show(m.dirs, "dirs-copied", rootfs.Copy)},
		{name: "tars, copied", stacks: show(m.tars, "tars-copied", rootfs.Copy)},
	}
	if _, err := exec.LookPath("fuse-overlayfs"); err == nil {
		drivers = append(drivers,
			form{name: "directories, fuse-overlayfs", stacks: show(m.dirs, "dirs-fused", rootfs.Fuse), apart: true},
			form{name: "tars, fuse-overlayfs", stacks: show(m.tars, "tars-fused", rootfs.Fuse), apart: true})
	}
	return forms, drivers
}

func (m *mixture) of(id oci.DiffID) *layer.Store {
	if id.Hex()[0]&1 == 0 {
		return m.dirs
	}
	return m.tars
}
func (m *mixture) Place(id oci.DiffID) (layer.Place, error)        { return m.of(id).Place(id) }
func (m *mixture) Unpack(ctx context.Context, id oci.DiffID) error { return m.of(id).Unpack(ctx, id) }
func (m *mixture) Stat(id oci.DiffID) (layer.Meta, error)          { return m.of(id).Stat(id) }

func compareForms(t *testing.T, forms []form, stack [][]byte, dir string) error {
	plain, err := os.MkdirTemp(dir, "plain-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(plain)
	var ids []oci.DiffID
	for i, raw := range stack {
		for _, f := range forms {
			if f.layers == nil {
				continue
			}
			m, err := f.layers.Ingest(t.Context(), bytes.NewReader(raw), "")
			if err != nil {
				return fmt.Errorf("%s, layer %d: %w", f.name, i, err)
			}
			if f.name == forms[0].name {
				ids = append(ids, m.DiffID)
			}
		}
		if err := apply(plain, raw); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	want, err := describe(plain, false)
	if err != nil {
		return err
	}
	var first []string
	for _, f := range forms {
		target, err := os.MkdirTemp(dir, "mnt-")
		if err != nil {
			return err
		}
		var exact, loose []string
		err = mount.Private(func() error {
			m := rootfs.Mount{Target: target}
			if err := f.stacks.Mount(ids, m); err != nil {
				return err
			}
			if exact, err = describe(target, true); err == nil {
				loose, err = describe(target, false)
			}
			return errors.Join(err, f.stacks.Unmount(m))
		})
		if f.apart && errors.Is(err, unix.ENOMEM) {
			return errors.Join(errFuse, os.Remove(target))
		}
		if err := errors.Join(err, os.Remove(target)); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if diff := difference(f.lines(want), f.lines(loose)); diff != "" {
			return fmt.Errorf("tar(1) (-), %s (+):\n%s", f.name, diff)
		}
		if first == nil {
			first = exact
		}
		if diff := difference(f.lines(first), f.lines(exact)); diff != "" {
			return fmt.Errorf("%s (-), %s (+):\n%s", forms[0].name, f.name, diff)
		}
	}
	return nil
}

func difference(a, b []string) string {
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

// apply puts a layer upon the tree at dir: what its marks take away, then tar(1).
func apply(dir string, raw []byte) error {
	tr := tar.NewReader(bytes.NewReader(raw))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		for up := path.Dir(path.Clean(hdr.Name)); up != "."; up = path.Dir(up) {
			if st, err := os.Lstat(filepath.Join(dir, up)); err == nil && !st.IsDir() {
				if err := os.Remove(filepath.Join(dir, up)); err != nil {
					return err
				}
			}
		}
		at, base := filepath.Join(dir, path.Dir(hdr.Name)), path.Base(hdr.Name)
		gone, marked := strings.CutPrefix(base, ".wh.")
		name := filepath.Join(dir, hdr.Name)
		st, serr := os.Lstat(name)
		switch {
		case base == ".wh..wh..opq":
			err = removeIn(at)
		case marked:
			err = os.RemoveAll(filepath.Join(at, gone))
		case serr == nil && (st.IsDir() || hdr.Typeflag == tar.TypeDir) && st.IsDir() != (hdr.Typeflag == tar.TypeDir):
			err = os.RemoveAll(name) // tar(1) would not
		case serr == nil && st.IsDir(): // whose attributes tar(1) would leave
			for _, x := range []string{"user.x", "trusted.y"} {
				_ = unix.Lremovexattr(name, x) // most have none
			}
		}
		if err != nil {
			return err
		}
	}
	cmd := exec.Command("tar", "-x", "-p", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=.wh.*", "--delay-directory-restore", "--warning=no-timestamp", "-C", dir)
	cmd.Stdin = bytes.NewReader(raw)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	return nil
}

func removeIn(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// describe tells all of a tree, a line a file; times of directories, which tar(1) leaves to chance where a layer has no
// entry for one, only if dirTimes.
func describe(dir string, dirTimes bool) (lines []string, err error) {
	seen := map[[2]uint64]string{}
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err == unix.ENOENT && d.Type()&fs.ModeCharDevice != 0 {
			return nil // overlay lists a whiteout in a directory that one layer alone has, and denies it when asked
		} else if err != nil {
			return err
		}
		if rel == "." && !dirTimes {
			return nil
		}
		line := fmt.Sprintf("%q %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		if dirTimes || !d.IsDir() {
			line += fmt.Sprintf(" %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + to
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" dev %d", st.Rdev)
		}
		id := [2]uint64{st.Dev, st.Ino}
		if !d.IsDir() && st.Nlink > 1 {
			if first := seen[id]; first != "" {
				line += " = " + first
			} else {
				seen[id] = rel // alone, when a layer above has the other names
			}
		}
		more, err := attributes(p)
		lines = append(lines, line+more)
		return err
	})
	return lines, err
}

func attributes(p string) (text string, err error) {
	buf := make([]byte, 8192)
	n, err := unix.Llistxattr(p, buf)
	if err != nil {
		return "", err
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") {
			continue
		}
		value := make([]byte, 8192)
		n, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			return "", fmt.Errorf("%s of %s: %w", name, p, err)
		}
		text += fmt.Sprintf(" %s=%q", name, value[:n])
	}
	return text, nil
}

// drawStack draws the tars of one to five layers over a few names. In one layer each name comes once: what several entries
// of one name come to is the business of package layer's tests.
func drawStack(t *rapid.T) [][]byte {
	d := &drawing{t: t}
	for range rapid.IntRange(1, 5).Draw(t, "layers") {
		d.layer()
	}
	return d.stack
}

type drawing struct {
	t     *rapid.T
	stack [][]byte
	raw   bytes.Buffer
	w     *tar.Writer
	used  map[string]bool
	dirs  []string // of this layer, "" among them
	files []string // of this layer, that can be linked to
}

func (d *drawing) layer() {
	d.raw.Reset()
	d.w, d.used, d.dirs, d.files = tar.NewWriter(&d.raw), map[string]bool{}, []string{""}, nil
	if d.chance(3) {
		d.write(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o751}, nil)
	}
	for range rapid.IntRange(1, 14).Draw(d.t, "entries") {
		d.entry()
	}
	d.check(d.w.Close())
	d.stack = append(d.stack, bytes.Clone(d.raw.Bytes()))
}

func (d *drawing) chance(n int) bool { return rapid.IntRange(0, n-1).Draw(d.t, "chance") == 0 }

func (d *drawing) check(err error) {
	if err != nil {
		panic(err)
	}
}

func (d *drawing) pick(list []string) string { return rapid.SampledFrom(list).Draw(d.t, "pick") }

var (
	names   = []string{"a", "b", "c", "d", "-", "..e", strings.Repeat("long", 60)}
	ids     = []int{0, 1, 1000, 65536, 1<<31 - 1, 1 << 31, 1<<32 - 2}
	moments = []time.Time{time.Unix(0, 0), time.Unix(-1, 500), time.Unix(-1<<31, 0), time.Unix(1<<31, 1), time.Unix(1<<32, 999_999_999), time.Unix(1_600_000_000, 0)}
	sizes   = []int{0, 1, 511, 512, 513, 4096, 70_000}
	ability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

func (d *drawing) entry() {
	dir := d.pick(d.dirs)
	name := path.Join(dir, d.pick(names))
	if d.used[name] || d.used[path.Join(dir, ".wh."+path.Base(name))] || len(path.Base(name)) > 200 && d.chance(2) {
		return
	}
	d.used[name] = true
	switch rapid.IntRange(0, 11).Draw(d.t, "kind") {
	case 0, 1, 2:
		d.dirs = append(d.dirs, name)
		d.write(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, PAXRecords: d.xattrs(true)}, nil)
		if d.chance(6) {
			d.write(&tar.Header{Typeflag: tar.TypeReg, Name: name + "/.wh..wh..opq"}, nil)
		}
	case 3: // a directory that only what is in it tells of
		d.dirs = append(d.dirs, name)
		d.file(path.Join(name, "in"))
	case 4:
		d.write(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: d.pick([]string{"a", "/b/c", "../d", "nowhere", strings.Repeat("t", 700)}), Mode: 0o777}, nil)
	case 5:
		if len(d.files) > 0 {
			d.write(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: d.pick(d.files)}, nil)
		}
	case 6:
		d.write(&tar.Header{Typeflag: rapid.SampledFrom([]byte{tar.TypeChar, tar.TypeBlock, tar.TypeFifo}).Draw(d.t, "device"), Name: name, Mode: 0o620, Devmajor: 4, Devminor: 300}, nil)
	case 7:
		if len(path.Base(name)) < 240 {
			d.write(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(dir, ".wh."+path.Base(name))}, nil)
			d.used[path.Join(dir, ".wh."+path.Base(name))] = true
		}
	case 8:
		d.sparse(name)
	default:
		d.file(name)
	}
}

func (d *drawing) file(name string) {
	d.used[name] = true
	content := bytes.Repeat([]byte(name), 1+70_000/len(name))[:rapid.SampledFrom(sizes).Draw(d.t, "size")]
	d.write(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: rapid.SampledFrom([]int64{0o644, 0o4755, 0o2711, 0}).Draw(d.t, "mode"), PAXRecords: d.xattrs(false)}, content)
	d.files = append(d.files, name)
}

func (d *drawing) xattrs(dir bool) map[string]string {
	if !d.chance(4) {
		return nil
	}
	x := map[string]string{"SCHILY.xattr.user.x": d.pick([]string{"", "value", strings.Repeat("v", 300)}), "SCHILY.xattr.trusted.y": "t"}
	if !dir {
		x["SCHILY.xattr.security.capability"] = ability
	}
	return x
}

func (d *drawing) write(h *tar.Header, content []byte) {
	h.Format, h.Size = tar.FormatPAX, int64(len(content))
	h.Uid, h.Gid = rapid.SampledFrom(ids).Draw(d.t, "uid"), rapid.SampledFrom(ids).Draw(d.t, "gid")
	h.ModTime = rapid.SampledFrom(moments).Draw(d.t, "time")
	d.check(d.w.WriteHeader(h))
	_, err := d.w.Write(content)
	d.check(err)
}

// sparse writes a file with holes as GNU tar does (PAX, 1.0): the map, then the pieces.
func (d *drawing) sparse(name string) {
	d.used[name] = true
	piece := rapid.SampledFrom([]int{5, 4096, 8192}).Draw(d.t, "piece")
	at := rapid.SampledFrom([]int{4096, 12_288, 1024}).Draw(d.t, "at")
	real := at + piece + 100_000
	table := fmt.Sprintf("3\n0\n%d\n%d\n%d\n%d\n0\n", at/2, at, piece, real)
	payload := append([]byte(table), make([]byte, -len(table)&511)...)
	payload = append(payload, bytes.Repeat([]byte("s"), at/2+piece)...)
	records := map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name, "GNU.sparse.realsize": strconv.Itoa(real)}
	var text string
	for _, k := range slices.Sorted(maps.Keys(records)) {
		text += paxRecord(k, records[k])
	}
	d.check(d.w.Flush())
	d.raw.Write(rawHeader("PaxHeaders.0/x", len(text), 'x'))
	d.raw.Write(append([]byte(text), make([]byte, -len(text)&511)...))
	d.raw.Write(rawHeader("GNUSparseFile.0/x", len(payload), '0'))
	d.raw.Write(append(payload, make([]byte, -len(payload)&511)...))
}

func paxRecord(k, v string) string {
	n := len(k) + len(v) + 3
	for len(strconv.Itoa(n))+len(k)+len(v)+3 != n {
		n = len(strconv.Itoa(n)) + len(k) + len(v) + 3
	}
	return fmt.Sprintf("%d %s=%s\n", n, k, v)
}

func rawHeader(name string, size int, typ byte) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x0013000000000\x00        ", size))
	b[156] = typ
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}
