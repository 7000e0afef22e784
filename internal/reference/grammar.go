package reference

import "strings"

// isPath: components of [a-z0-9]+ with single separators '.', '_', "__" or any number of '-' between, joined by '/'.
func isPath(s string) bool {
	for component := range strings.SplitSeq(s, "/") {
		if !isComponent(component) {
			return false
		}
	}
	return true
}

func isComponent(s string) bool {
	if s == "" || !isLowerAlnum(s[0]) || !isLowerAlnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if isLowerAlnum(s[i]) {
			i++
			continue
		}
		n := separator(s[i:])
		if n == 0 {
			return false
		}
		i += n
	}
	return true
}

// separator is the length of the separator that s starts with: all of it or nothing, so that two of them in a row fail.
func separator(s string) int {
	n := 1
	for n < len(s) && !isLowerAlnum(s[n]) {
		n++
	}
	switch sep := s[:n]; {
	case sep == ".", sep == "_", sep == "__", strings.Trim(sep, "-") == "":
		return n
	}
	return 0
}

// isDomain: host[:port], the host a DNS name, an IPv4 address or an IPv6 address in brackets.
func isDomain(s string) bool {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		i := strings.IndexByte(s, ']')
		if i < 0 {
			return false
		}
		host, port = s[:i+1], s[i+1:]
		return isIPv6(host) && isPort(port)
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i:]
	}
	for label := range strings.SplitSeq(host, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return isPort(port)
}

func isIPv6(s string) bool {
	inner := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	return inner != "" && strings.Trim(inner, "0123456789abcdefABCDEF:") == ""
}

// isPort: nothing, or ':' and digits.
func isPort(s string) bool {
	return s == "" || len(s) > 1 && s[0] == ':' && strings.Trim(s[1:], "0123456789") == ""
}

func isLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

func isTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && !strings.ContainsRune("_.-", rune(s[i])) {
			return false
		}
	}
	return true
}

// isDigest accepts the algorithms that distribution does. What is stored is sha256 only; a name may say more.
func isDigest(s string) bool {
	algorithm, hex, _ := strings.Cut(s, ":")
	size := 0
	switch algorithm {
	case "sha256":
		size = 64
	case "sha384":
		size = 96
	case "sha512":
		size = 128
	}
	return size != 0 && len(hex) == size && isHex(hex)
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

func isLowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isAlnum(c byte) bool { return isLowerAlnum(c) || c >= 'A' && c <= 'Z' }
