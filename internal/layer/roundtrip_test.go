package layer_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"strata/internal/layer"
)

// octal header fields of a hand-made block
func rawBlock(name string, size int64, typ byte, magic string) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], fmt.Sprintf("%07o\x00", os.Geteuid()))
	copy(b[116:], fmt.Sprintf("%07o\x00", os.Getegid()))
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[136:], "00000000001\x00")
	b[156] = typ
	copy(b[257:], magic)
	return b
}

func checksum(b []byte) []byte {
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func pad(s string) []byte { return append([]byte(s), make([]byte, -len(s)&511)...) }

// oldSparse is a file in GNU's old sparse format: 4 bytes at 0, 4 bytes at 1 MiB.
func oldSparse(name string) []byte {
	b := rawBlock(name, 8, 'S', "ustar  \x00")
	for i, off := range []int64{0, 1 << 20} {
		copy(b[386+24*i:], fmt.Sprintf("%011o\x00", off))
		copy(b[398+24*i:], fmt.Sprintf("%011o\x00", 4))
	}
	copy(b[483:], fmt.Sprintf("%011o\x00", 1<<20+4))
	return append(checksum(b), pad("headtail")...)
}

func paxRecord(k, v string) string {
	n := len(k) + len(v) + 3
	for len(fmt.Sprint(n))+len(k)+len(v)+3 != n {
		n = len(fmt.Sprint(n)) + len(k) + len(v) + 3
	}
	return fmt.Sprintf("%d %s=%s\n", n, k, v)
}

func paxFile(records, name, payload string) []byte {
	out := checksum(rawBlock("PaxHeaders.0/"+name, int64(len(records)), 'x', "ustar\x0000"))
	out = append(out, pad(records)...)
	out = append(out, checksum(rawBlock(name, int64(len(payload)), '0', "ustar\x0000"))...)
	return append(out, pad(payload)...)
}

func sparse01(name, payload string) []byte {
	return paxFile(paxRecord("GNU.sparse.size", "1048580")+paxRecord("GNU.sparse.name", name)+paxRecord("GNU.sparse.numblocks", "2")+
		paxRecord("GNU.sparse.map", "0,4,1048576,4"), name, payload)
}

func sparse00(name, payload string) []byte {
	return paxFile(paxRecord("GNU.sparse.size", "1048580")+paxRecord("GNU.sparse.numblocks", "2")+
		paxRecord("GNU.sparse.offset", "0")+paxRecord("GNU.sparse.numbytes", "4")+
		paxRecord("GNU.sparse.offset", "1048576")+paxRecord("GNU.sparse.numbytes", "4"), name, payload)
}

func sparse10(name string) []byte {
	return paxFile(paxRecord("GNU.sparse.major", "1")+paxRecord("GNU.sparse.minor", "0")+paxRecord("GNU.sparse.name", name)+
		paxRecord("GNU.sparse.realsize", "1048580"), "GNUSparseFile.0/"+name, string(pad("2\n0\n4\n1048576\n4\n"))+"headtail")
}

func sparseBig(name string) []byte {
	return paxFile(paxRecord("GNU.sparse.size", "2000000")+paxRecord("GNU.sparse.numblocks", "1")+
		paxRecord("GNU.sparse.map", "1000000,300000"), name, strings.Repeat("sparse", 50000))
}

var zeros = make([]byte, 1024)

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func oddTars(t *testing.T) map[string][]byte {
	long := strings.Repeat("long/", 60) + "name"
	gnu := func(h *tar.Header) *tar.Header { h.Format = tar.FormatGNU; h.ModTime = time.Unix(1, 0); return h }
	noEnd := func(b []byte) []byte { return b[:len(b)-1024] }
	big := strings.Repeat("0123456789abcdef", 40_000)
	return map[string][]byte{
		"nothing":          {},
		"two zero blocks":  zeros,
		"zero record":      make([]byte, 10240),
		"trailing garbage": append(archive(t, entry(tar.TypeReg, "a", "x")), "garbage\x00\xff that is no block"...),
		"much garbage":     append(archive(t), bytes.Repeat([]byte("garbage "), 100_000)...),
		"second archive":   cat(archive(t, entry(tar.TypeReg, "a", "x")), archive(t, entry(tar.TypeReg, "b", "y"))),
		"no end":           noEnd(archive(t, entry(tar.TypeReg, "a", "x"))),
		"no padding":       noEnd(archive(t, entry(tar.TypeReg, "a", "x")))[:1537],
		"gnu long":         archive(t, gnu(entry(tar.TypeReg, long, "x")), gnu(entry(tar.TypeSymlink, "l", long))),
		"pax long":         archive(t, entry(tar.TypeReg, long, "x"), entry(tar.TypeSymlink, "l", long)),
		"ustar prefix": archive(t, &tar.Header{Name: strings.Repeat("d/", 60) + "n", Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
			Uid: os.Geteuid(), Gid: os.Getegid()}),
		"v7":                 cat(checksum(rawBlock("v7", 3, 0, "")), pad("abc"), checksum(rawBlock("dir/", 0, 0, "")), zeros),
		"contiguous":         cat(checksum(rawBlock("c", 3, '7', "ustar\x0000")), pad("abc"), zeros),
		"unknown type":       cat(checksum(rawBlock("c", 3, 'Q', "ustar\x0000")), pad("abc"), zeros),
		"old sparse":         cat(oldSparse("s"), zeros),
		"sparse 0.0":         cat(sparse00("s", "headtail"), zeros),
		"sparse 0.1":         cat(sparse01("s", "headtail"), zeros),
		"sparse 1.0":         cat(sparse10("s"), zeros),
		"sparse in side":     cat(sparseBig("s"), sparseBig("t"), sparse10("s"), zeros),
		"global header":      archive(t, &tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}}, entry(tar.TypeReg, "a", "x")),
		"shadowed":           archive(t, entry(tar.TypeReg, "a", "one"), entry(tar.TypeReg, "a", "two!"), entry(tar.TypeReg, "a"), entry(tar.TypeReg, "a", big)),
		"shadowed by dir":    archive(t, entry(tar.TypeReg, "a", "one"), entry(tar.TypeDir, "a/"), entry(tar.TypeReg, "a/b", "x")),
		"dir by file":        archive(t, entry(tar.TypeDir, "a/"), entry(tar.TypeReg, "a/b/c", "one"), entry(tar.TypeReg, "a/d", "two"), entry(tar.TypeReg, "a", "x"), entry(tar.TypeReg, "a/b/c", "new")),
		"below a file":       archive(t, entry(tar.TypeReg, "a", "one"), entry(tar.TypeReg, "a/b", "x")),
		"dir by link":        archive(t, entry(tar.TypeReg, "a/b", "one"), entry(tar.TypeSymlink, "a", "c"), entry(tar.TypeReg, "a/b", "two"), entry(tar.TypeReg, "c/b", "three")),
		"hard links":         archive(t, entry(tar.TypeReg, "a", "one"), entry(tar.TypeLink, "b", "a"), entry(tar.TypeReg, "a", "two"), entry(tar.TypeLink, "c", "b"), entry(tar.TypeReg, "b", "three"), entry(tar.TypeLink, "c", "c"), entry(tar.TypeLink, "a", "c"), entry(tar.TypeReg, "c", "4")),
		"whiteouts":          archive(t, entry(tar.TypeReg, ".wh.a"), entry(tar.TypeDir, "d/"), entry(tar.TypeReg, "d/.wh..wh..opq"), entry(tar.TypeReg, "d/.wh.x", "payload?"), entry(tar.TypeReg, ".wh.a")),
		"aufs":               archive(t, entry(tar.TypeDir, ".wh..wh.plnk/"), entry(tar.TypeReg, ".wh..wh.plnk/1.2", "abc"), entry(tar.TypeReg, ".wh..wh.aufs")),
		"whiteout and entry": archive(t, entry(tar.TypeReg, "a", "x"), entry(tar.TypeReg, ".wh.a"), entry(tar.TypeReg, ".wh.d"), entry(tar.TypeReg, "d/e", "y"), entry(tar.TypeReg, ".wh.f"), entry(tar.TypeReg, "f", "y")),
		"xattrs":             archive(t, entry(tar.TypeReg, "a", "x", map[string]string{"user.x": "1\x002", "trusted.overlay.opaque": "y", "user.overlay.opaque": "y"}), entry(tar.TypeDir, "d/", map[string]string{"user.overlay.opaque": "y", "trusted.overlay.redirect": "/etc"})),
		"dots":               archive(t, entry(tar.TypeDir, "./"), entry(tar.TypeReg, "./a//b/../c", "x"), entry(tar.TypeReg, "/abs/olute", "y")),
		"fifo":               archive(t, entry(tar.TypeFifo, "p"), entry(tar.TypeReg, "p", "x"), entry(tar.TypeFifo, "p")),
		"null device":        archive(t, entry(tar.TypeReg, "n", "x"), entry(tar.TypeChar, "n"), entry(tar.TypeLink, "m", "n")),
		"big":                archive(t, entry(tar.TypeReg, "a", big), entry(tar.TypeReg, "b", big)),
		"odd names":          archive(t, entry(tar.TypeReg, "\xff\xfe", "x"), entry(tar.TypeReg, "new\nline", "y"), entry(tar.TypeReg, "é", "z")),
	}
}

func TestOddTarsComeBack(t *testing.T) {
	for name, raw := range oddTars(t) {
		t.Run(name, func(t *testing.T) {
			s, root := open(t, options())
			roundTrip(t, s, raw)
			empty(t, root)
		})
	}
}

// TestAnyTarComesBack makes tars of colliding names, in any order and of every type.
func TestAnyTarComesBack(t *testing.T) {
	s, root := open(t, options())
	comp := rapid.SampledFrom([]string{"a", "b", "c", ".wh.a", ".wh.b", ".wh..wh..opq", "..", ".", ".wh..wh.x"})
	rapid.Check(t, func(t *rapid.T) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		type made struct{ name string }
		var files []made
		for range rapid.IntRange(0, 25).Draw(t, "entries") {
			name := strings.Join(rapid.SliceOfN(comp, 1, 4).Draw(t, "name"), "/")
			if strings.HasPrefix(filepath.Clean("x/"+name)+"/", "../") || !strings.HasPrefix(filepath.Clean("x/"+name), "x/") {
				continue
			}
			if rapid.IntRange(0, 9).Draw(t, "sparse") == 0 {
				w.Flush()
				b.Write([][]byte{oldSparse("a/s"), sparse10("b"), sparse01("a", "headtail"), sparseBig("c/b")}[rapid.IntRange(0, 3).Draw(t, "kind")])
				continue
			}
			typ := rapid.SampledFrom([]byte{tar.TypeReg, tar.TypeReg, tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo, tar.TypeChar, 'Q'}).Draw(t, "type")
			h := entry(typ, name, 0o755)
			h.Format = rapid.SampledFrom([]tar.Format{tar.FormatPAX, tar.FormatGNU, tar.FormatUSTAR}).Draw(t, "format")
			if h.Format != tar.FormatPAX {
				h.ModTime = time.Unix(1, 0)
			}
			var content []byte
			switch typ {
			case tar.TypeReg, 'Q':
				content = bytes.Repeat([]byte("x"), rapid.SampledFrom([]int{0, 1, 511, 512, 513, 70_000}).Draw(t, "size"))
				h.Size = int64(len(content))
				if typ == tar.TypeReg {
					files = append(files, made{name})
				}
			case tar.TypeSymlink:
				h.Linkname = rapid.SampledFrom([]string{"a", "/b", "../c", "b/c", "nowhere"}).Draw(t, "target")
			case tar.TypeLink:
				if len(files) == 0 {
					continue
				}
				h.Linkname = rapid.SampledFrom(files).Draw(t, "target").name
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			w.Write(content)
		}
		if rapid.Bool().Draw(t, "end") {
			w.Close()
		} else {
			w.Flush()
		}
		b.Write([][]byte{nil, zeros, make([]byte, 9000), []byte("garbage")}[rapid.IntRange(0, 3).Draw(t, "tail")])
		raw := b.Bytes()
		if legible(raw) != nil {
			t.Skip("archive/tar does not read it")
		}
		if _, err := s.Ingest(t.Context(), bytes.NewReader(raw), ""); err != nil {
			if reasonable(err) {
				t.Skip(err)
			}
			t.Fatal(err)
		}
		roundTrip(t, s, raw)
	})
	empty(t, root)
}

func legible(raw []byte) error {
	r := tar.NewReader(bytes.NewReader(raw))
	for {
		if _, err := r.Next(); err != nil {
			if err.Error() == "EOF" {
				return nil
			}
			return err
		}
	}
}

// reasonable errors are those about what no directory tree can be.
func reasonable(err error) bool {
	for _, text := range []string{"hard link to", "names the root", "symbolic links", "whiteout of nothing"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

func TestEightAtOnce(t *testing.T) {
	s, root := open(t, options())
	var list []*tar.Header
	for i := range 200 {
		list = append(list, entry(tar.TypeReg, fmt.Sprintf("d%d/f%d", i%7, i), strings.Repeat("x", i*10)))
	}
	raw := archive(t, list...)
	var wg sync.WaitGroup
	ids := make([]layer.Meta, 8)
	for i := range 8 {
		wg.Go(func() {
			var err error
			if ids[i], err = s.Ingest(t.Context(), bytes.NewReader(raw), ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, m := range ids {
		if m.DiffID != ids[0].DiffID {
			t.Errorf("%s, %s", m.DiffID, ids[0].DiffID)
		}
	}
	roundTrip(t, s, raw)
	empty(t, root)
}
