package tool

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// gzipTool is gzip, gunzip and zcat: -d -c -k -f -t -n and levels -1 to -9.
func gzipTool(p *Proc) error {
	o, names, err := p.opts("dckftn#", "decompress=d", "stdout=c", "keep=k", "force=f", "test=t", "no-name=n", "best=B", "fast=F")
	if err != nil {
		return err
	}
	unpack := o.has('d') || o.has('t') || p.Name != "gzip"
	level := gzip.DefaultCompression
	if o.has('#') {
		level = int(o.last('#', "6")[0] - '0')
	} else if o.has('B') {
		level = gzip.BestCompression
	} else if o.has('F') {
		level = gzip.BestSpeed
	}
	convert := func(w io.Writer, r io.Reader) error {
		if !unpack {
			z, err := gzip.NewWriterLevel(w, level)
			if err != nil {
				return err
			}
			if _, err := io.Copy(z, r); err != nil {
				return err
			}
			return z.Close()
		}
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, z)
		return err
	}
	p.inputs(names, func(name string, r io.Reader) error {
		switch {
		case o.has('t'):
			return convert(io.Discard, r)
		case name == "-" || o.has('c') || p.Name == "zcat":
			return convert(p.Out, r)
		}
		return gzipFile(o, name, unpack, func(w io.Writer) error { return convert(w, r) })
	})
	return nil
}

// gzipFile writes the converted file beside the file and removes that.
func gzipFile(o opts, name string, unpack bool, convert func(io.Writer) error) error {
	to := name + ".gz"
	if unpack {
		var ok bool
		if to, ok = strings.CutSuffix(name, ".gz"); !ok {
			if to, ok = strings.CutSuffix(name, ".tgz"); !ok {
				return fmt.Errorf("%s: the name does not end in .gz", name)
			}
			to += ".tar"
		}
	}
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if o.has('f') {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(to, flags, st.Mode().Perm())
	if err != nil {
		return err
	}
	if err := errors.Join(convert(f), f.Close()); err != nil {
		os.Remove(to)
		return err
	}
	if err := os.Chtimes(to, st.ModTime(), st.ModTime()); err != nil || o.has('k') {
		return err
	}
	return os.Remove(name)
}
