# Serves one page that names the release, and /health.

require "sinatra/base"

class App < Sinatra::Base
  VERSION = File.read("VERSION").strip
  GREETING = ENV.fetch("GREETING", "Hello from")

  before { content_type "text/plain" }
  get("/") { "#{GREETING} #{VERSION}\n" }
  get("/health") { "ok\n" }
end
