package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSignInConfig: what is wrong with operators.oidc is said in its own words.
func TestSignInConfig(t *testing.T) {
	const good = "issuer: https://id.test\nclient_id: hallmark\nurl: https://ca.test:8443\n"
	for name, c := range map[string]struct{ text, want string }{
		"all is well":          {good, ""},
		"a slash at the end":   {strings.Replace(good, ":8443", ":8443/", 1), ""},
		"none":                 {"session_idle: 10m\n", ""},
		"no issuer":            {"client_id: hallmark\n", "issuer is missing"},
		"no client":            {"issuer: https://id.test\nurl: https://ca.test\n", "client_id"},
		"no url":               {"issuer: https://id.test\nclient_id: x\n", "url is missing"},
		"a url with a path":    {strings.Replace(good, ":8443", ":8443/pages", 1), "no path"},
		"plain http":           {strings.Replace(good, "https://id.test", "http://id.test", 1), "issuer: want an https URL"},
		"a misspelt field":     {good + "client_secret: x\n", "client_secret"},
		"a long life":          {good + "session_lifetime: 2d\n", "session_lifetime"},
		"a short idle":         {good + "session_idle: 1s\n", "session_idle"},
		"a scope of two words": {good + "scopes: [email groups]\n", "scopes"},
		"a max_age of nothing": {good + "max_age: -1h\n", "max_age"},
	} {
		file := filepath.Join(t.TempDir(), "config.yaml")
		text := "operators:\n  oidc:\n    " + strings.ReplaceAll(strings.TrimSpace(c.text), "\n", "\n    ") + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := readConfig(file, options{})
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		o := config.Operators.OIDC
		if o.Issuer != "" && o.provider().Callback != "https://ca.test:8443/api/v1/login/callback" {
			t.Errorf("%s: callback %s", name, o.provider().Callback)
		}
		if time.Duration(o.SessionLifetime) != 8*time.Hour || o.Scopes[0] != "email" {
			t.Errorf("%s: defaults are missing: %+v", name, o)
		}
	}
}

// TestProviderTrust: files that are named have to be there, and hold something.
func TestProviderTrust(t *testing.T) {
	h := &house{dir: t.TempDir(), config: &Config{}}
	for name, text := range map[string]string{"empty": "\n", "secret": "s3cret\r\n", "text": "no certificate"} {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ secret, ca, want string }{
		{"secret", "", ""}, {"", "", ""}, {"missing", "", "client_secret_file"}, {"empty", "", "is empty"}, {"", "missing", "ca_file"}, {"secret", "text", "no certificate"},
	} {
		h.config.Operators.OIDC = OIDCConfig{Issuer: "https://id.test", ClientSecretFile: c.secret, CAFile: c.ca}
		trust, err := h.providerTrust()
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil && c.secret != "" && trust.ClientSecret != "s3cret" {
			t.Errorf("the secret is %q", trust.ClientSecret)
		}
	}
}

// TestKeptLogins: what is kept of sessions, whatever else is in the files.
func TestKeptLogins(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	if lastLogin() != nil || findLogin("https://a.test") != nil {
		t.Error("there is a session out of nothing")
	}
	now := time.Now()
	for server, k := range map[string]keptLogin{
		"https://a.test": {Token: "a", Created: now.Add(-time.Hour), Expires: now.Add(time.Hour)},
		"https://b.test": {Token: "b", Created: now.Add(-time.Minute), Expires: now.Add(time.Hour)},
		"https://c.test": {Token: "c", Created: now, Expires: now.Add(-time.Second)},
	} {
		k.Server = server
		if err := k.keep(); err != nil {
			t.Fatal(err)
		}
	}
	if last := lastLogin(); last == nil || last.Token != "b" {
		t.Errorf("the last session is %+v", last)
	}
	if findLogin("https://c.test") != nil {
		t.Error("a session that has run out is used")
	}
	file, err := loginFile("https://b.test")
	if err == nil {
		err = os.WriteFile(file, []byte("{"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if last := lastLogin(); last == nil || last.Token != "a" {
		t.Errorf("beside a broken file the last session is %+v", last)
	}
	for range 2 {
		if err := forgetLogin("https://a.test"); err != nil {
			t.Error(err)
		}
	}
	if lastLogin() != nil {
		t.Error("a session is not forgotten")
	}
}
