package event

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"strata/internal/errdef"
	"strata/internal/record"
)

// The types of things that events happen to.
const (
	Container = "container"
	Image     = "image"
	Volume    = "volume"
	Network   = "network"
	Builder   = "builder"
)

// Message is one event in docker's JSON form.
type Message struct {
	// Status, ID and From repeat the action, the actor's id and its image, as docker does for containers and images.
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`

	Type   string `json:"Type"`
	Action string `json:"Action"`
	Actor  Actor  `json:"Actor"`
	Scope  string `json:"scope,omitempty"`
	// Time is in seconds since 1970, TimeNano in nanoseconds.
	Time     int64 `json:"time,omitempty"`
	TimeNano int64 `json:"timeNano,omitempty"`
}

// Actor is what an event happened to.
type Actor struct {
	ID         string            `json:"ID"`
	Attributes map[string]string `json:"Attributes"`
}

// New makes a message. Attributes are names and values by turns; they go before the labels.
func New(kind, action, id string, labels map[string]string, attributes ...string) Message {
	all := make(map[string]string, len(labels)+len(attributes)/2)
	maps.Copy(all, labels)
	for i := 0; i+1 < len(attributes); i += 2 {
		all[attributes[i]] = attributes[i+1]
	}
	return Message{Type: kind, Action: action, Actor: Actor{ID: id, Attributes: all}}
}

// When is the time of the event.
func (m Message) When() time.Time { return time.Unix(0, m.TimeNano) }

// encode gives the line that is kept: what [decode] fills in again is left out.
func encode(m Message) ([]byte, error) {
	m.Status, m.ID, m.From, m.Scope, m.Time = "", "", "", "", 0
	raw, err := json.Marshal(m)
	if err == nil && len(raw) >= record.MaxLine {
		m.Actor.Attributes = short(m.Actor.Attributes)
		raw, err = json.Marshal(m)
	}
	return raw, err
}

// The bounds on the attributes of a message that would be too long: a label may have any size.
const (
	shortAttribute  = 256
	shortAttributes = 32
)

// short leaves out what is long. Our own attributes are short, and there are few.
func short(attributes map[string]string) map[string]string {
	kept := map[string]string{}
	for _, name := range slices.SortedFunc(maps.Keys(attributes), func(a, b string) int { return len(a) - len(b) }) {
		if len(name)+len(attributes[name]) <= shortAttribute && len(kept) < shortAttributes {
			kept[name] = attributes[name]
		}
	}
	return kept
}

func decode(line []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("event: %w: %w", errdef.ErrCorrupt, err)
	}
	if m.Type == "" || m.Action == "" || m.TimeNano <= 0 {
		return m, fmt.Errorf("event %.100q: %w", line, errdef.ErrCorrupt)
	}
	if m.Actor.Attributes == nil {
		m.Actor.Attributes = map[string]string{}
	}
	m.Scope, m.Time = "local", m.When().Unix()
	if m.Type == Container || m.Type == Image {
		m.Status, m.ID = m.Action, m.Actor.ID
	}
	if m.Type == Container {
		m.From = m.Actor.Attributes["image"]
	}
	return m, nil
}
