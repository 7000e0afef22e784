package engine

import (
	"regexp"
	"strings"
)

// NameMatches is docker's filter by name: a regular expression is found in the name. What is no regular expression is found nowhere.
func NameMatches(expr, name string) bool {
	if !strings.ContainsAny(expr, `\.+*?()|[]{}^$`) {
		return strings.Contains(name, expr)
	}
	found, err := regexp.MatchString(expr, name)
	return err == nil && found
}
