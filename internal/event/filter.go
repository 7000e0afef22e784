package event

import (
	"fmt"
	"slices"
	"strings"

	"strata/internal/errdef"
	"strata/internal/reference"
)

// Filter holds docker's filters of events: the values of one key are alternatives, except labels, which must all be there;
// all keys must hold. The nil Filter selects everything.
type Filter map[string][]string

// filterKeys are the keys there are, in the order in which they are told.
const filterKeys = "config container daemon event image label network node plugin scope secret service type volume"

// ParseFilter reads filters of the form key=value.
func ParseFilter(exprs []string) (Filter, error) {
	f := Filter{}
	for _, expr := range exprs {
		key, value, ok := strings.Cut(expr, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" {
			return nil, fmt.Errorf("bad format of filter %.100q (expected name=value): %w", expr, errdef.ErrInvalid)
		}
		if !slices.Contains(strings.Fields(filterKeys), key) {
			return nil, errdef.WithHint(fmt.Errorf("filter %.100q: no such key: %w", key, errdef.ErrInvalid), "there are: "+filterKeys)
		}
		f[key] = append(f[key], strings.TrimSpace(value))
	}
	return f, nil
}

// Match reports whether the filter selects the message.
func (f Filter) Match(m Message) bool {
	for key, values := range f {
		holds := func(v string) bool { return matches(m, key, v) }
		if key == "label" {
			if slices.ContainsFunc(values, func(v string) bool { return !holds(v) }) {
				return false
			}
		} else if !slices.ContainsFunc(values, holds) {
			return false
		}
	}
	return true
}

func matches(m Message, key, value string) bool {
	switch key {
	case "type":
		return m.Type == value
	case "event":
		return m.Action == value || detailed(value) && strings.HasPrefix(m.Action, value+":")
	case "scope":
		return m.Scope == value
	case "image":
		return matchesImage(m, value)
	case "label":
		name, want, exact := strings.Cut(value, "=")
		got, ok := m.Actor.Attributes[name]
		return ok && (!exact || got == want)
	}
	// A kind of thing: the beginning of its id or name, as docker has it.
	return strings.HasPrefix(m.Actor.ID, value) || strings.HasPrefix(m.Actor.Attributes["name"], value)
}

// detailed reports whether the action is followed by a detail: "exec_create: sh -c ls".
func detailed(action string) bool {
	return action == "health_status" || action == "exec_create" || action == "exec_start"
}

// matchesImage compares with the image of a container's event, and with id and name of an image's, with and without tag.
func matchesImage(m Message, value string) bool {
	attribute := "image"
	if m.Type == Image {
		attribute = "name"
	}
	for _, name := range []string{m.Actor.ID, m.Actor.Attributes[attribute]} {
		if name == "" {
			continue
		}
		if name == value {
			return true
		}
		if ref, err := reference.Parse(name); err == nil && ref.FamiliarName() == value {
			return true
		}
	}
	return false
}
