package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// node is a file, directory, link or device. Hard links share one.
type node struct {
	kind     byte
	mode     int64
	uid, gid int
	size     int64
	text     string // contents if short, else their digest
	link     string
	dev      string
	xattrs   map[string]string
}

// tree is a file system by absolute path, as a stack of layers gives it.
type tree map[string]*node

// shownText is up to which size a file's contents stand in the result themselves.
const shownText = 80

// apply lays a layer over the tree.
func (t tree) apply(layer io.Reader) error {
	mine := map[string]bool{} // what this layer brought: its whiteouts are about what was there before
	r := tar.NewReader(layer)
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean("/" + hdr.Name)
		dir, base := path.Split(name)
		dir = path.Clean(dir)
		switch hidden, is := strings.CutPrefix(base, ".wh."); {
		case base == ".wh..wh..opq":
			t.remove(dir, mine, false)
			continue
		case is:
			t.remove(path.Join(dir, hidden), mine, true)
			continue
		}
		n, err := t.node(hdr, r)
		if err != nil {
			return err
		}
		if old := t[name]; old != nil && (old.kind != 'd' || n.kind != 'd') {
			t.remove(name, nil, true)
		}
		t.imply(dir, mine)
		t[name], mine[name] = n, true
	}
}

// imply makes the directories that a layer leaves unsaid.
func (t tree) imply(dir string, mine map[string]bool) {
	for ; t[dir] == nil; dir = path.Dir(dir) {
		t[dir], mine[dir] = &node{kind: 'd', mode: 0o755}, true
	}
}

// remove takes away what stands below name, and name itself when told, but for what keep has.
func (t tree) remove(name string, keep map[string]bool, self bool) {
	below := strings.TrimSuffix(name, "/") + "/"
	for p := range t {
		if (self && p == name || strings.HasPrefix(p, below) && p != "/") && !keep[p] {
			delete(t, p)
		}
	}
}

func (t tree) node(hdr *tar.Header, body io.Reader) (*node, error) {
	n := &node{mode: hdr.Mode & 0o7777, uid: hdr.Uid, gid: hdr.Gid}
	for k, v := range hdr.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if n.xattrs == nil {
				n.xattrs = map[string]string{}
			}
			n.xattrs[name] = v
		}
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		n.kind = 'd'
	case tar.TypeSymlink:
		n.kind, n.link = 'l', hdr.Linkname
	case tar.TypeLink:
		old := t[path.Clean("/"+hdr.Linkname)]
		if old == nil {
			return nil, fmt.Errorf("layer: %s is a link to %s, which is not there", hdr.Name, hdr.Linkname)
		}
		return old, nil
	case tar.TypeFifo:
		n.kind = 'p'
	case tar.TypeChar, tar.TypeBlock:
		n.kind, n.dev = 'c', fmt.Sprintf("%d:%d", hdr.Devmajor, hdr.Devminor)
	default:
		n.kind, n.size = '-', hdr.Size
		return n, n.read(body)
	}
	return n, nil
}

func (n *node) read(body io.Reader) error {
	sum := sha256.New()
	if n.size > shownText {
		_, err := io.Copy(sum, body)
		n.text = hex.EncodeToString(sum.Sum(nil)[:12])
		return err
	}
	raw, err := io.ReadAll(body)
	n.text = string(raw)
	if !utf8.Valid(raw) {
		sum.Write(raw)
		n.text = hex.EncodeToString(sum.Sum(nil)[:12])
		return err
	}
	n.text = strconv.Quote(n.text)
	return err
}

func (n *node) String() string {
	s := fmt.Sprintf("%c %04o %d:%d", n.kind, n.mode, n.uid, n.gid)
	switch n.kind {
	case '-':
		if !strings.HasPrefix(n.text, `"`) {
			s += fmt.Sprintf(" %d", n.size)
		}
		s += " " + n.text
	case 'l':
		s = fmt.Sprintf("l %d:%d -> %s", n.uid, n.gid, n.link)
	case 'c':
		s += " " + n.dev
	}
	for _, k := range slices.Sorted(maps.Keys(n.xattrs)) {
		s += fmt.Sprintf(" %s=%q", k, n.xattrs[k])
	}
	return s
}

// flat gives every path its line. Of hard links the first path has the file, the others name it.
func (t tree) flat() map[string]string {
	first := map[*node]string{}
	out := make(map[string]string, len(t))
	for _, p := range slices.Sorted(maps.Keys(t)) {
		n := t[p]
		if f, ok := first[n]; ok {
			out[p] = "h " + f
			continue
		}
		first[n] = p
		out[p] = n.String()
	}
	return out
}
