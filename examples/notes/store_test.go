package main

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"
)

func TestStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notes")
	s, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"second", "first"} {
		if err := s.put(name, []byte("text of "+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.put("../etc", nil); !errors.Is(err, errName) {
		t.Error(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if s, err = open(file); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if got, err := s.get("first"); string(got) != "text of first" || err != nil {
		t.Error(string(got), err)
	}
	if _, err := s.get("third"); !errors.Is(err, errNone) {
		t.Error(err)
	}
	if names, _ := s.names(); !reflect.DeepEqual(names, []string{"first", "second"}) {
		t.Error(names)
	}
}
