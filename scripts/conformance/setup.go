package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// prepare runs one command of a setup. Paths are relative to the context:
//
//	chmod MODE PATH              mkdir PATH [MODE]        rm PATH
//	chown UID:GID PATH           symlink TARGET PATH      link OLD NEW
//	xattr PATH NAME VALUE        fifo PATH                touch PATH
//	sparse PATH SIZE             one byte at the end of a hole
//	repeat PATH TEXT N           appends TEXT N times
//	replace PATH OLD NEW         in the file's bytes; \r \n \t \x.. and \u.... are escapes
//	tar PATH ENTRY...            NAME/ a directory, NAME=TEXT a file, NAME@TARGET a link, NAME&OLD a hard link; owner 7:8.
//	                             A path that ends in .gz, .zst or .xz is compressed
//	gzip PATH                    compresses the file where it lies, .gz added
func (c *testCase) prepare(line string) error {
	words := strings.Fields(line)
	if len(words) < 2 {
		return fmt.Errorf("want a command with arguments")
	}
	at := func(i int) string { return filepath.Join(c.dir, words[i]) }
	switch command := words[0]; {
	case command == "mkdir":
		if err := c.parents(words[1] + "/"); err != nil || len(words) < 3 {
			return err
		}
		return chmod(at(1), words[2])
	case command == "rm":
		return os.RemoveAll(at(1))
	case command == "fifo":
		return unix.Mkfifo(at(1), 0o644)
	case command == "touch":
		return c.write(words[1], nil)
	case command == "gzip":
		return gzipFile(at(1))
	case command == "tar":
		return makeTar(at(1), words[2:])
	case len(words) < 3:
		return fmt.Errorf("too few arguments")
	case command == "chmod":
		return chmod(at(2), words[1])
	case command == "chown":
		uid, gid, _ := strings.Cut(words[1], ":")
		u, _ := strconv.Atoi(uid)
		g, _ := strconv.Atoi(gid)
		return os.Lchown(at(2), u, g)
	case command == "symlink":
		if err := c.parents(words[2]); err != nil {
			return err
		}
		return os.Symlink(words[1], at(2))
	case command == "link":
		return os.Link(at(1), at(2))
	case command == "sparse":
		return sparse(at(1), words[2])
	case len(words) < 4:
		return fmt.Errorf("too few arguments")
	case command == "xattr":
		return unix.Lsetxattr(at(1), words[2], []byte(words[3]), 0)
	case command == "repeat":
		n, err := strconv.Atoi(words[3])
		if err != nil {
			return err
		}
		return edit(at(1), func(s string) string { return s + strings.Repeat(words[2], n) })
	case command == "replace":
		return edit(at(1), func(s string) string { return strings.ReplaceAll(s, unescape(words[2]), unescape(words[3])) })
	}
	return fmt.Errorf("unknown command")
}

func unescape(s string) string {
	if s == "-" {
		return ""
	}
	if out, err := strconv.Unquote(`"` + s + `"`); err == nil {
		return out
	}
	return s
}

func chmod(path, mode string) error {
	m, err := strconv.ParseUint(mode, 8, 32)
	if err != nil {
		return err
	}
	return unix.Chmod(path, uint32(m)) // os.Chmod has its own bits for setuid and its kin
}

func edit(path string, fn func(string) string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(fn(string(raw))), 0o644)
}

func sparse(path, size string) error {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), n-1); err != nil {
		return err
	}
	return f.Chmod(0o644)
}

func gzipFile(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(raw); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := os.WriteFile(path+".gz", out.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Remove(path)
}

func makeTar(path string, entries []string) error {
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	for _, e := range entries {
		hdr := tar.Header{Name: e, Mode: 0o644, Uid: 7, Gid: 8, Typeflag: tar.TypeReg}
		text := ""
		switch i := strings.IndexAny(e, "=@&"); {
		case i < 0:
			hdr.Typeflag, hdr.Mode = tar.TypeDir, 0o755
		case e[i] == '=':
			hdr.Name, text = e[:i], e[i+1:]
		case e[i] == '@':
			hdr.Name, hdr.Linkname, hdr.Typeflag, hdr.Mode = e[:i], e[i+1:], tar.TypeSymlink, 0o777
		default:
			hdr.Name, hdr.Linkname, hdr.Typeflag = e[:i], e[i+1:], tar.TypeLink
		}
		hdr.Size = int64(len(text))
		if err := w.WriteHeader(&hdr); err != nil {
			return err
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return writeCompressed(path, raw.Bytes())
}

func writeCompressed(path string, raw []byte) error {
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch filepath.Ext(path) {
	case ".gz", ".tgz":
		w = gzip.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	case ".xz":
		w, err = xz.NewWriter(&out)
	default:
		return os.WriteFile(path, raw, 0o644)
	}
	if err != nil {
		return err
	}
	if _, err := w.Write(raw); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
