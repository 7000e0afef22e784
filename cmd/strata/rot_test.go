//go:build linux

package main_test

import (
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// flip PATTERN…: changes one bit in the middle of each file that matches, as a disk does; the times stay.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	for _, pattern := range args {
		files, err := filepath.Glob(ts.MkAbs(pattern))
		ts.Check(err)
		if len(files) == 0 {
			ts.Fatalf("flip: nothing matches %s", pattern)
		}
		for _, file := range files {
			ts.Check(flipAt(file, 0.5))
		}
	}
}

// flipAt changes a bit of the file at a part of its length between 0 and 1.
func flipAt(file string, part float64) error {
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	at := int64(part * float64(fi.Size()))
	var b [1]byte
	if _, err = f.ReadAt(b[:], at); err == nil {
		b[0] ^= 1
		_, err = f.WriteAt(b[:], at)
	}
	if err != nil {
		return err
	}
	return os.Chtimes(file, fi.ModTime(), fi.ModTime())
}
