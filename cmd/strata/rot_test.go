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
			ts.Check(flipFile(file))
		}
	}
}

func flipFile(file string) error {
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	at := len(raw) / 2
	if _, err = f.WriteAt([]byte{raw[at] ^ 1}, int64(at)); err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	return os.Chtimes(file, fi.ModTime(), fi.ModTime())
}
