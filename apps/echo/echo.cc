// Echo (RFC 862): sends back what it is sent. A complete Understudy server.
#include "framework/run.h"

namespace {

class Echo : public understudy::Server {
  size_t OnData(understudy::Connection& connection, std::string_view unread) override {
    connection.Send(unread);
    return unread.size();
  }
};

}  // namespace

int main(int argc, char** argv) { return understudy::Run<Echo>(argc, argv); }
