package event

import (
	"context"
	"errors"
	"fmt"
	"time"

	"strata/internal/errdef"
	"strata/internal/record"
)

// Log is the events of one store. The nil Log keeps nothing.
type Log struct{ journal *record.Journal }

// Open names the log in dir, which is made with the first event.
func Open(dir string) *Log { return &Log{record.OpenJournal(dir)} }

// Emit keeps a message, stamped with the time. What cannot be written is lost.
func (l *Log) Emit(m Message) {
	if l == nil {
		return
	}
	m.TimeNano = time.Now().UnixNano()
	if raw, err := encode(m); err == nil {
		_ = l.journal.Append(raw) // the thing has happened, whether it can be told or not
	}
}

// Query says which events to read.
type Query struct {
	// Since and Until bound the time; the zero time does not. With neither, only what happens from now on is read.
	Since, Until time.Time
	// Filter selects; nil selects all.
	Filter Filter
}

// Read gives fn the events that were, then those that come, until Until, the end of ctx, whose error it then returns, or an error of fn.
func (l *Log) Read(ctx context.Context, q Query, fn func(Message) error) error {
	if !q.Until.IsZero() && q.Since.After(q.Until) {
		return fmt.Errorf("`since` time (%s) cannot be after `until` time (%s): %w",
			q.Since.Format(time.RFC3339Nano), q.Until.Format(time.RFC3339Nano), errdef.ErrInvalid)
	}
	r, err := l.journal.Reader(q.Since.IsZero() && q.Until.IsZero())
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		// Asked before reading: what came before the end is read then.
		last := !q.Until.IsZero() && !time.Now().Before(q.Until)
		err := r.Each(func(line []byte) error { return q.pass(line, fn) })
		if err != nil || last {
			return err
		}
		if err := r.Wait(ctx, q.Until); err != nil {
			return err
		}
	}
}

// pass gives the message of a line to fn if the query asks for it.
func (q Query) pass(line []byte, fn func(Message) error) error {
	m, err := decode(line)
	if errors.Is(err, errdef.ErrCorrupt) {
		return nil // torn by a crash: the next line is whole again
	}
	if err != nil {
		return err
	}
	when := m.When()
	if when.Before(q.Since) || !q.Until.IsZero() && when.After(q.Until) || !q.Filter.Match(m) {
		return nil
	}
	return fn(m)
}
