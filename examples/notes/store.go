package main

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	bolt "go.etcd.io/bbolt"
)

var (
	// errNone says that there is no such note.
	errNone = errors.New("no such note")
	// errName says that a name cannot be one.
	errName = errors.New("a name is small letters, digits and hyphens")
)

var (
	bucket  = []byte("notes")
	goodkey = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,99}$`)
)

// store is an open file of notes.
type store struct{ db *bolt.DB }

// open opens the file, or makes it.
func open(file string) (*store, error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return &store{db}, nil
}

// close closes the file.
func (s *store) close() error { return s.db.Close() }

// put keeps a note's text under a name.
func (s *store) put(name string, text []byte) error {
	if !goodkey.MatchString(name) {
		return fmt.Errorf("%q: %w", name, errName)
	}
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put([]byte(name), text) })
}

// get gives a note's text.
func (s *store) get(name string) (text []byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucket).Get([]byte(name))
		if v == nil {
			return fmt.Errorf("%q: %w", name, errNone)
		}
		text = append(text, v...)
		return nil
	})
	return text, err
}

// names lists the notes in order.
func (s *store) names() (all []string, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(k, _ []byte) error {
			all = append(all, string(k))
			return nil
		})
	})
	return all, err
}
