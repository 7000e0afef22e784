package remote

import "strings"

const maxChallenge = 16 << 10 // of WWW-Authenticate, in bytes

// challenge is one way to prove who one is that a server offers. See RFC 9110, section 11.6.1.
type challenge struct {
	scheme string // in lower case
	params map[string]string
}

// choose takes the first challenge for a token, else the first for a password.
func choose(all []challenge) (challenge, bool) {
	for _, c := range all {
		if c.scheme == "bearer" && c.params["realm"] != "" {
			return c, true
		}
	}
	for _, c := range all {
		if c.scheme == "basic" {
			return c, true
		}
	}
	return challenge{}, false
}

// parseChallenges reads WWW-Authenticate headers: each can hold several challenges. It stops at what it does not understand.
func parseChallenges(headers []string) []challenge {
	var all []challenge
	for _, h := range headers {
		if len(h) > maxChallenge {
			continue
		}
		all = append(all, parseChallenge(h)...)
	}
	return all
}

func parseChallenge(s string) []challenge {
	var all []challenge
	for {
		s = strings.TrimLeft(s, " \t,")
		word, rest := token(s)
		if word == "" {
			return all
		}
		after := strings.TrimLeft(rest, " \t")
		if len(all) > 0 && strings.HasPrefix(after, "=") && !strings.HasPrefix(after, "==") {
			value, rest, ok := value(strings.TrimLeft(after[1:], " \t"))
			if !ok {
				return all
			}
			if last := all[len(all)-1].params; len(last) < 16 {
				last[strings.ToLower(word)] = value
			}
			s = rest
			continue
		}
		all = append(all, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
		s = rest
		if rest != "" && rest[0] != ' ' && rest[0] != '\t' && rest[0] != ',' {
			return all
		}
	}
}

// token is the word that s starts with.
func token(s string) (word, rest string) {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// value is the token or quoted string that s starts with.
func value(s string) (v, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		v, rest = token(s)
		return v, rest, v != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
