require "sinatra/base"

class App < Sinatra::Base
  GREETING = ENV.fetch("GREETING")

  get("/") { GREETING }
  get("/slow") do
    sleep 6
    GREETING
  end
end
